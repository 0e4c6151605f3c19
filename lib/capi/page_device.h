#pragma once
#include <cstdint>
#include <memory>

#include "capi/calls.h"

namespace blockgtq::capi {

/// Writes and reads pages where they lie. Arguments have been checked (calls.h).
class PageDevice {
 public:
  virtual ~PageDevice() = default;
  virtual int64_t table_bytes() const = 0;  // of device memory

  virtual void encode(const Encode& job) const = 0;
  virtual void decode(const Attention& step) const = 0;
  virtual void prefill(const Attention& chunk) const = 0;
  virtual void split(const blockgtq_split_args& job) const = 0;
  virtual void read(const Read& job) const = 0;

  /// Bytes of scratch that such a call takes.
  virtual int64_t encode_scratch(const Encode& job) const = 0;
  virtual int64_t decode_scratch(const Attention& step) const = 0;
  virtual int64_t prefill_scratch(const Attention& chunk) const = 0;
};

/// `opened` must outlive what is made.
std::unique_ptr<PageDevice> make_cpu_device(const Opened& opened);
/// Makes tables on the device. Exit::device where that cannot be.
std::unique_ptr<PageDevice> make_cuda_device(const Opened& opened);
/// The device that "cuda" means for this thread; Exit::device where there is none.
int current_cuda_device();
extern const char* const kCudaText;  // "CUDA" or "without CUDA"

}  // namespace blockgtq::capi
