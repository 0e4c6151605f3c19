#include "model/cuda_weight_stream.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"

namespace blockgtq {

namespace {

constexpr int64_t kPieceBytes = 1 << 20;
constexpr size_t kPrefetchPieces = 256;  // pages are requested that far ahead

}  // namespace

void Staging::ensure(int64_t bytes) {
  for (cuda::PinnedBuffer& batch : batches) {
    if (int64_t(batch.bytes()) >= bytes) continue;
    batch = cuda::PinnedBuffer();
    batch = cuda::PinnedBuffer(size_t(bytes));
  }
}

WeightStream::WeightStream(const Checkpoint& model, int device, const std::vector<Parcel>& parcels,
                           std::byte* arena, Staging& staging, size_t first)
    : model_(model),
      device_(device),
      parcels_(parcels),
      arena_(arena),
      staging_(staging),
      arrived_(parcels.size()),
      finished_(parcels.size()),
      n_arrived_(first),
      n_finished_(first) {
  int64_t largest = 0;
  for (const Parcel& parcel : parcels_) {
    split(parcel);
    for (const Batch& batch : batches_.back()) largest = std::max(largest, batch.bytes);
  }
  staging_.ensure(largest);
  thread_ = std::thread([this] { run(); });
}

WeightStream::~WeightStream() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
  try {
    copies_.synchronize();  // then the staging memory and the arena may be freed
  } catch (const Error&) {
    // The user of the weights gets this error. A destructor must not throw.
  }
}

void WeightStream::split(const Parcel& parcel) {
  std::vector<Batch>& batches = batches_.emplace_back();
  for (const Parcel::Item& item : parcel.items) {
    const int64_t elements = item.tensor->elements();
    const BlockSize unit = item.unit();
    const int64_t most = kPieceBytes / unit.bytes * unit.elements;
    const auto bytes = [&](int64_t n) { return n / unit.elements * unit.bytes; };
    for (int64_t first = 0; first < elements; first += most) {
      const int64_t count = std::min(most, elements - first);
      const Piece piece{&item, first, count, item.offset + bytes(first), bytes(count)};
      const bool fits =
          !batches.empty() && piece.at + piece.bytes - batches.back().at <= Staging::kBatchBytes;
      if (!fits) batches.push_back({pieces_.size(), 0, piece.at, 0});
      Batch& batch = batches.back();
      batch.n_pieces += 1;
      batch.bytes = piece.at + piece.bytes - batch.at;
      pieces_.push_back(piece);
    }
  }
}

const std::byte* WeightStream::acquire(size_t i, const cuda::Stream& stream) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return n_arrived_ > i || error_; });
  if (n_arrived_ <= i) std::rethrow_exception(error_);
  arrived_[i].wait_on(stream);
  return arena_ + parcels_[i].arena_offset;
}

void WeightStream::release(size_t i, const cuda::Stream& stream) {
  finished_[i].record(stream);
  {
    const std::lock_guard lock(mutex_);
    check(n_finished_ == i, "parcels are released in order");
    n_finished_ = i + 1;
  }
  changed_.notify_all();
}

/// Returns false when the run was abandoned.
bool WeightStream::wait_for_room(size_t i) {
  const int after = parcels_[i].after;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stop_ || int64_t(n_finished_) > after; });
  if (stop_) return false;
  lock.unlock();
  if (after >= 0) finished_[size_t(after)].wait_on(copies_);
  return true;
}

void WeightStream::run() {
  try {
    cuda::set_device(device_);
    const size_t first = n_arrived_, first_piece = batches_[first].front().first_piece;
    parallel_for(kPrefetchPieces, [&](size_t p) { prefetch(first_piece + p); });
    for (size_t i = first; i < parcels_.size(); ++i) {
      if (!wait_for_room(i)) return;
      for (const Batch& batch : batches_[i]) {
        if (stop_) return;
        send(batch, parcels_[i]);
      }
      arrived_[i].record(copies_);
      {
        const std::lock_guard lock(mutex_);
        n_arrived_ = i + 1;
      }
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

void WeightStream::send(const Batch& batch, const Parcel& parcel) {
  const size_t slot = n_sent_ % Staging::kBatches;
  if (n_sent_ >= Staging::kBatches) staged_[slot].synchronize();
  std::byte* staged = staging_.batches[slot].as<std::byte>();
  parallel_for(batch.n_pieces, [&](size_t p) {
    prefetch(batch.first_piece + p + kPrefetchPieces);
    const Piece& piece = pieces_[batch.first_piece + p];
    copy(piece, staged + (piece.at - batch.at));
  });
  cuda::upload(arena_ + parcel.arena_offset + batch.at, staged, size_t(batch.bytes), copies_);
  staged_[slot].record(copies_);
  ++n_sent_;
}

namespace {

/// The rows that hold `count` elements from `first` on.
Tensor stretch(const Tensor& tensor, int64_t first, int64_t count) {
  const int64_t cols = tensor.row_elements(), row = first / cols;
  Tensor flat = tensor;
  if (flat.shape.size() > 2) flat.shape = {tensor.shape[0], cols};
  return flat.rows(row, (first + count + cols - 1) / cols - row);
}

}  // namespace

void WeightStream::prefetch(size_t p) const {
  if (p < pieces_.size())
    model_.prefetch(stretch(*pieces_[p].item->tensor, pieces_[p].first, pieces_[p].count));
}

void WeightStream::copy(const Piece& piece, std::byte* to) const {
  const Tensor& tensor = *piece.item->tensor;
  if (piece.item->to_float) {
    tensor.read(piece.first, piece.count, reinterpret_cast<float*>(to));
  } else {
    tensor.copy(piece.first, piece.count, to);
  }
  model_.release(stretch(tensor, piece.first, piece.count));
}

}  // namespace blockgtq
