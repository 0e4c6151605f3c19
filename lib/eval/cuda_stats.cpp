#include "eval/cuda_stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "kernels/diagnose/stats.h"

namespace blockgtq {
namespace {

constexpr int64_t kSlotBytes = int64_t(64) << 20;  // sums of a slot in flight, unless one chunk has more
constexpr int64_t kBadWords = 3;                   // per chunk: q, k, v

/// The sums of some chunks of one layer that are being computed on the device.
struct Slot {
  cuda::Buffer sums, key_sums, bad;
  cuda::PinnedBuffer host_sums, host_key_sums, host_bad;
  cuda::Event done;
  int layer = 0;
  int64_t first = 0, n = 0;  // chunks of this run; n = 0: the slot is free
};

}  // namespace

struct CudaStats::State {
  State(Stats& stats, int64_t from, std::function<void(int)> on_layer);
  void take(Slot& slot);
  void check_finite(const Slot& slot) const;
  void take_sample(const float* x, int64_t width, const Sample& sample, void* stream, std::vector<float>& to);

  Stats& stats;
  int64_t from;  // tokens left out at the start of every chunk
  std::function<void(int)> on_layer;
  cuda::StatsInput input;      // the same for all layers, without the arrays
  cuda::StatsInput key_input;  // the same with keys in place of values, for their second moments
  int64_t slot_chunks;
  std::array<Slot, 2> slots;
  size_t next = 0;  // slot: the older one of the two
};

CudaStats::State::State(Stats& s, int64_t first, std::function<void(int)> told)
    : stats(s), from(first), on_layer(std::move(told)) {
  const AttentionShape& shape = s.shape;
  check(s.n_chunks() > 0, "CudaStats: no chunks");
  input.layout = shape.layout;
  input.n_heads = shape.n_heads;
  input.n_kv_heads = shape.n_kv_heads;
  input.v_dim = shape.v_dim;
  input.n_tokens = s.n_tokens();
  input.chunk = s.chunk_tokens[0];
  for (int64_t c = 0; c < s.n_chunks(); ++c)
    check(s.chunk_tokens[c] == std::min(input.chunk, input.n_tokens - c * input.chunk),
          "CudaStats: chunks of different lengths");
  if (s.layers.empty()) s.layers.resize(shape.n_layers);
  key_input = input;
  key_input.v_dim = shape.layout.head_dim;
  const int64_t chunk_bytes = input.chunk_size() * int64_t(sizeof(double)),
                key_bytes = key_input.chunk_size() * int64_t(sizeof(double));
  slot_chunks = std::clamp<int64_t>(kSlotBytes / std::max(chunk_bytes, key_bytes), 1, s.n_chunks());
  for (Slot& slot : slots) {
    slot.sums = cuda::Buffer(slot_chunks * chunk_bytes);
    slot.host_sums = cuda::PinnedBuffer(slot_chunks * chunk_bytes);
    slot.key_sums = cuda::Buffer(slot_chunks * key_bytes);
    slot.host_key_sums = cuda::PinnedBuffer(slot_chunks * key_bytes);
    slot.bad = cuda::Buffer(slot_chunks * kBadWords * sizeof(int32_t));
    slot.host_bad = cuda::PinnedBuffer(slot.bad.bytes());
  }
}

void CudaStats::State::check_finite(const Slot& slot) const {
  static constexpr const char* kNames[] = {"q_proj", "k_proj", "v_proj"};
  const int32_t* bad = slot.host_bad.as<int32_t>();
  for (int64_t i = 0; i < slot.n * kBadWords; ++i)
    if (bad[i] != INT32_MAX)
      throw Error(Exit::nonfinite,
                  fmt::format("layer {}: {} output: token {}: not finite", slot.layer, kNames[i % kBadWords],
                              (slot.first + i / kBadWords) * (input.chunk + from) + from + bad[i]));
}

/// Waits for a slot's sums, and appends them to the statistics.
void CudaStats::State::take(Slot& slot) {
  if (slot.n == 0) return;
  slot.done.synchronize();
  check_finite(slot);
  LayerStats& to = stats.layers.at(slot.layer);
  for (int64_t c = 0; c < slot.n; ++c) {
    const double* from = slot.host_sums.as<double>() + c * input.chunk_size();
    const auto add = [&](std::vector<double>& sums, int64_t n) {
      append(sums, {from, size_t(n)});
      from += n;
    };
    add(to.q2, input.q2_size());
    add(to.k2, input.q2_size());
    add(to.k_sum, input.k_size());
    add(to.v_sum, input.v_size());
    const double* kk =
        slot.host_key_sums.as<double>() + (c + 1) * key_input.chunk_size() - key_input.vv_size();
    to.kk.add_chunk(stats.first_chunk + slot.first + c, std::vector<double>(kk, kk + key_input.vv_size()));
    if (input.v_dim > 0)
      to.vv.add_chunk(stats.first_chunk + slot.first + c, std::vector<double>(from, from + input.vv_size()));
  }
  const bool whole = slot.first + slot.n == stats.n_chunks();
  slot.n = 0;
  if (whole && on_layer) on_layer(slot.layer);
}

CudaStats::CudaStats(Stats& stats, int64_t from, std::function<void(int layer)> on_layer)
    : state_(std::make_unique<State>(stats, from, std::move(on_layer))) {}
CudaStats::~CudaStats() = default;

/// Copies the sampled rows of x (n, width), a chunk in device memory.
void CudaStats::State::take_sample(const float* x, int64_t width, const Sample& sample, void* stream,
                                   std::vector<float>& to) {
  std::vector<float> rows(size_t(sample.n * width));
  const size_t bytes = size_t(width) * sizeof(float);
  cuda::download_rows_now(rows.data(), x, bytes, bytes * size_t(sample.step), size_t(sample.n), stream);
  append_sample(to, rows.data(), int64_t(rows.size()));
}

void CudaStats::add_layer(int layer, const float* q, const float* k, const float* v, void* handle) {
  State& s = *state_;
  check(layer >= 0 && layer < s.stats.shape.n_layers && s.stats.layers[layer].q2.empty(),
        "CudaStats: no such layer, or seen before");
  const cuda::Stream stream(handle);
  const int64_t k_width = s.input.n_kv_heads * s.input.layout.head_dim,
                v_width = s.input.n_kv_heads * s.input.v_dim;
  LayerStats& to = s.stats.layers[layer];
  for (int64_t c = 0; c < s.stats.n_chunks(); ++c) {
    const Sample sample =
        sample_of(s.stats.shape, s.stats.first_chunk + c, s.stats.chunk_tokens[c], s.stats.run_chunks);
    if (sample.n == 0) continue;
    const int64_t token = c * (s.input.chunk + s.from) + s.from;
    s.take_sample(k + token * k_width, k_width, sample, handle, to.k_sample);
    if (v_width > 0) s.take_sample(v + token * v_width, v_width, sample, handle, to.v_sample);
  }
  for (int64_t first = 0; first < s.stats.n_chunks(); first += s.slot_chunks) {
    Slot& slot = s.slots[s.next];
    s.next = 1 - s.next;
    s.take(slot);
    slot.layer = layer;
    slot.first = first;
    slot.n = std::min(s.slot_chunks, s.stats.n_chunks() - first);
    // Chunks whose tokens all count are adjacent in memory; others are added one by one.
    const int64_t at_once = s.from > 0 ? 1 : slot.n;
    for (int64_t c = 0; c < slot.n; c += at_once) {
      cuda::StatsInput part = s.input;
      const int64_t token = (first + c) * (part.chunk + s.from) + s.from;
      part.n_tokens = std::min(at_once * part.chunk, part.n_tokens - (first + c) * part.chunk);
      part.q = q + token * part.n_heads * part.layout.head_dim;
      part.k = k + token * part.n_kv_heads * part.layout.head_dim;
      part.v = part.v_dim > 0 ? v + token * part.n_kv_heads * part.v_dim : nullptr;
      // The second run repeats the other sums of the first. What is not finite there is reported there too.
      cuda::StatsInput keys = part;
      keys.v_dim = s.key_input.v_dim;
      keys.v = part.k;
      int32_t* bad = slot.bad.as<int32_t>() + c * kBadWords;
      cuda::block_stats(keys, slot.key_sums.as<double>() + c * keys.chunk_size(), bad, stream);
      cuda::block_stats(part, slot.sums.as<double>() + c * part.chunk_size(), bad, stream);
    }
    cuda::download(slot.host_key_sums.as(), slot.key_sums.as(),
                   slot.n * s.key_input.chunk_size() * sizeof(double), stream);
    cuda::download(slot.host_sums.as(), slot.sums.as(), slot.n * s.input.chunk_size() * sizeof(double),
                   stream);
    cuda::download(slot.host_bad.as(), slot.bad.as(), slot.n * kBadWords * sizeof(int32_t), stream);
    slot.done.record(stream);
  }
}

void CudaStats::finish() {
  State& s = *state_;
  for (int i = 0; i < 2; ++i) {
    s.take(s.slots[s.next]);
    s.next = 1 - s.next;
  }
}

}  // namespace blockgtq
