#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace blockgtq::cuda {

struct DeviceInfo {
  int index = 0;
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t total_bytes = 0, free_bytes = 0;
};

struct DeviceReport {
  std::vector<DeviceInfo> devices;  // visible ones, in CUDA's order
  std::string why_none;             // when devices is empty: no driver, no device, driver too old
  std::string driver, runtime;      // "13.0"; driver empty when there is none
  std::string architectures;        // what this build carries: "sm_80 sm_90 + PTX"
};

/// Never throws: a machine without a GPU is an ordinary result.
DeviceReport probe_devices();

/// Where a buffer lies: on the device, or in page-locked host memory, whose copies overlap with work.
enum class Memory { device, pinned };

/// Memory with one owner. The constructor throws Exit::device when the memory cannot be allocated. For device
/// memory the error names the bytes that are needed and free.
template <Memory where>
class MemoryBuffer {
 public:
  MemoryBuffer() = default;
  explicit MemoryBuffer(size_t bytes);
  MemoryBuffer(MemoryBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MemoryBuffer& operator=(MemoryBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MemoryBuffer();
  size_t bytes() const { return bytes_; }
  template <class T = void>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

using Buffer = MemoryBuffer<Memory::device>;
using PinnedBuffer = MemoryBuffer<Memory::pinned>;

/// A cudaStream_t behind plain C++. Every launcher takes one.
class Stream {
 public:
  Stream();
  /// Wraps a stream that the caller made and destroys.
  explicit Stream(void* handle) : handle_(handle), owned_(false) {}
  Stream(const Stream&) = delete;
  ~Stream();
  void* handle() const { return handle_; }
  void synchronize() const;

 private:
  void* handle_ = nullptr;
  bool owned_ = true;
};

/// A point in a stream that another stream, or the host, can wait for.
class Event {
 public:
  Event();
  Event(const Event&) = delete;
  ~Event();
  void record(const Stream& stream);
  void wait_on(const Stream& stream) const;  // later work of `stream` waits for this event
  void synchronize() const;                  // the host waits
  float milliseconds_since(const Event& earlier) const;

 private:
  void* handle_ = nullptr;
};

void set_device(int index);  // for this host thread; Exit::device when the device cannot be used
int current_device();        // of this host thread
int64_t free_device_bytes();

/// Copies between host and device. They are asynchronous where the host memory is pinned.
void upload(void* device, const void* host, size_t bytes, const Stream& stream);
void download(void* host, const void* device, size_t bytes, const Stream& stream);
void copy_on_device(void* to, const void* from, size_t bytes, const Stream& stream);
/// Copies from the device behind the work that is queued on `stream`
/// (a cudaStream_t), and waits for the copy.
void download_now(void* host, const void* device, size_t bytes, void* stream);
/// The same for n rows, which begin `pitch` bytes apart on the device and lie dense on the host.
void download_rows_now(void* host, const void* device, size_t row_bytes, size_t pitch, size_t n,
                       void* stream);
void fill_zero(void* device, size_t bytes, const Stream& stream);

}  // namespace blockgtq::cuda
