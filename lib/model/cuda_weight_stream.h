#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/device/device.h"
#include "model/cuda_parcel.h"

namespace blockgtq {

/// Page-locked memory through which weights go to the device. It is kept from run to run, because allocating
/// it is slow.
struct Staging {
  static constexpr int64_t kBatchBytes = 32 << 20;
  static constexpr size_t kBatches = 3;
  std::array<cuda::PinnedBuffer, kBatches> batches;

  void ensure(int64_t bytes);  // of every batch
};

/// Copies parcels from the mapped checkpoint to the device, one after the other. A thread copies batches into
/// page-locked memory (on all processors) and sends them on a CUDA stream of its own, while the caller
/// computes with an earlier parcel.
class WeightStream {
 public:
  /// Parcels from index `first` on go to arena + their offset. model, parcels and staging must outlive this
  /// object.
  WeightStream(const Checkpoint& model, int device, const std::vector<Parcel>& parcels, std::byte* arena,
               Staging& staging, size_t first = 0);
  WeightStream(const WeightStream&) = delete;
  ~WeightStream();

  /// Waits until parcel i has been sent; later work on `stream` finds it there. Call in order, once for each
  /// parcel.
  const std::byte* acquire(size_t i, const cuda::Stream& stream);
  /// Says that work that `stream` gets from now on does not need parcel i.
  void release(size_t i, const cuda::Stream& stream);

 private:
  /// Consecutive elements of one tensor.
  struct Piece {
    const Parcel::Item* item;
    int64_t first, count;  // elements
    int64_t at, bytes;     // in the parcel
  };
  /// Consecutive pieces that are copied together.
  struct Batch {
    size_t first_piece = 0, n_pieces = 0;
    int64_t at = 0, bytes = 0;  // in the parcel
  };

  void split(const Parcel& parcel);
  void run();
  bool wait_for_room(size_t parcel);
  void send(const Batch& batch, const Parcel& parcel);
  void prefetch(size_t piece) const;
  void copy(const Piece& piece, std::byte* to) const;

  const Checkpoint& model_;
  const int device_;
  const std::vector<Parcel>& parcels_;
  std::byte* const arena_;
  Staging& staging_;

  std::vector<Piece> pieces_;                // of all parcels
  std::vector<std::vector<Batch>> batches_;  // by parcel
  size_t n_sent_ = 0;                        // batches
  cuda::Stream copies_;
  std::vector<cuda::Event> arrived_, finished_;  // by parcel
  std::array<cuda::Event, Staging::kBatches> staged_;

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t n_arrived_, n_finished_;  // parcels whose events are recorded, or that are skipped
  std::atomic<bool> stop_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace blockgtq
