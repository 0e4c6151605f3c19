#include "serve/cuda_kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "cache/exact_cache.h"
#include "cache/exact_page.h"
#include "cache/trellis_cache.h"

namespace blockgtq {
namespace {

cuda::Buffer to_device(const std::vector<int32_t>& values, const cuda::Stream& stream) {
  cuda::Buffer buffer(values.size() * sizeof(int32_t));
  cuda::upload(buffer.as(), values.data(), buffer.bytes(), stream);
  stream.synchronize();  // the copy reads `values`, which end here
  return buffer;
}

/// The rows of a page table from `row` on, as a table of one sequence.
cuda::PageTable row_of(cuda::PageTable table, int64_t row) {
  table.block_table += row * table.stride;
  table.lengths += row;
  return table;
}

/// Exit::input for a rule that attention over trellis codes does not have.
void require_plain(const AttentionShape& shape, int layer, const cuda::AttentionRule& rule) {
  const char* const what = rule.window > 0    ? "a sliding window"
                           : rule.softcap > 0 ? "softcaps"
                           : shape.sinks      ? "learned sinks"
                                              : nullptr;
  if (what)
    throw Error(Exit::input,
                fmt::format("layer {}: attention with {} over trellis codes has no kernel", layer, what),
                "--code scalar, or --device cpu");
}

}  // namespace

CudaKvCache::CudaKvCache(const AttentionShape& shape, KvKind kind, int batch, int64_t capacity,
                         const cuda::Stream& stream, int64_t most_bytes)
    : shape_(shape), kind_(std::move(kind)), batch_(batch), capacity_(capacity) {
  check(batch > 0 && capacity > 0 && capacity <= INT32_MAX - kPagePositions &&
            kind_.exact.sink % kPagePositions == 0,
        "CudaKvCache: arguments");
  sinks_ = window().sink / kPagePositions;
  ring_ = ring_pages(window());
  for (int l = 0; l < shape.n_layers && kind_.is_packed(); ++l) {
    const PackedSpec& spec = kind_.packed[size_t(l)];
    if (has_trellis(spec)) {
      require_plain(shape, l, rule(l));
      const auto bytes = size_t(batch) * size_t(shape.n_kv_heads * shape.layout.head_dim) * sizeof(uint16_t);
      if (!token_k_.as()) token_k_ = cuda::Buffer(bytes), token_v_ = cuda::Buffer(bytes);
    }
    layers_.push_back(make_cuda_layer_cache(spec, capacity, stream));
  }
  make_pages(most_bytes, stream);
  in_order_ = to_device(std::vector<int32_t>(size_t(exact_table_->stride() * batch)), stream);
  const std::vector<int32_t> zeros(static_cast<size_t>(batch));
  for (cuda::Buffer* words : {&positions_, &lengths_, &exact_lengths_, &exact_starts_})
    *words = to_device(zeros, stream);
  starts_ = to_device({0, 0, int32_t(window().sink)}, stream);
  int64_t scratch = most_scratch_bytes(shape, nullptr, batch, true);
  for (const auto& layer : layers_)
    scratch = std::max(scratch, most_scratch_bytes(shape, layer.get(), batch, true));
  scratch_ = cuda::Buffer(size_t(scratch));
}

void CudaKvCache::make_pages(int64_t most_bytes, const cuda::Stream& stream) {
  int64_t packed_bytes = 0;  // of one page in all layers
  for (int l = 0; l < int(layers_.size()); ++l) packed_bytes += packed_page_bytes(l);
  const int64_t exact_bytes = exact_pages_of(1) * shape_.n_layers * page_bytes_of_exact();
  const int64_t packed_each = packed_pages_of(capacity_), exact_each = exact_pages_of(capacity_);
  const int64_t whole = packed_each * packed_bytes + exact_each * exact_bytes;  // of one sequence
  const int64_t room = std::max<int64_t>(0, most_bytes - packed_bytes - exact_bytes);
  int64_t exact = batch_ * exact_each, packed = batch_ * packed_each;
  if (batch_ * whole > room) {
    // Exact pages are cut to the same fraction as packed ones. But a short sequence needs as many exact pages
    // as a long one. So there are more of them, up to half of the bytes, as long as one long sequence has
    // room.
    const double part = double(room) / double(batch_ * whole);
    if (exact_bytes > 0)
      exact = std::max(
          int64_t(part * double(exact)),
          std::min({exact, room / 2 / exact_bytes, (room - packed_each * packed_bytes) / exact_bytes}));
    if (packed_bytes > 0) packed = std::min(packed, (room - exact * exact_bytes) / packed_bytes);
  }
  const int64_t stride = std::max(pages_of(capacity_), kind_.is_packed() ? sinks_ : 0);
  packed_table_.emplace("packed", batch_, stride, sinks_, packed, stream);
  exact_table_.emplace("fp16", batch_, sinks_ + ring_ + 1, 0, exact, stream);
  const auto add = [&](std::vector<cuda::Buffer>& to, int64_t n, int64_t page_bytes) {
    to.emplace_back(size_t((n + 1) * page_bytes));  // one more: the spare page
    cuda::fill_zero(to.back().as(), to.back().bytes(), stream);
  };
  for (int l = 0; l < shape_.n_layers; ++l) {
    if (kind_.is_packed()) add(packed_, packed, packed_page_bytes(l));
    if (exact_bytes > 0) add(exact_, exact, page_bytes_of_exact());
  }
}

int64_t CudaKvCache::packed_pages_of(int64_t n) const {
  return kind_.is_packed() ? std::max<int64_t>(pages_of(n) - sinks_, 0) : 0;
}

int64_t CudaKvCache::exact_pages_of(int64_t n) const {
  return std::min(pages_of(n), sinks_ + ring_);
}

bool CudaKvCache::holds(std::span<const int64_t> lengths) const {
  int64_t packed = 0, exact = 0;
  for (const int64_t n : lengths) {
    packed += packed_pages_of(n);
    exact += exact_pages_of(n);
  }
  return packed <= packed_table_->pool().total() && exact <= exact_table_->pool().total();
}

void CudaKvCache::require(int64_t n) const {
  check(n <= capacity_, "CudaKvCache: a sequence longer than the cache");
  if (packed_pages_of(n) > packed_table_->pool().total())
    throw packed_table_->pool().lack(packed_pages_of(n));
  if (exact_pages_of(n) > exact_table_->pool().total()) throw exact_table_->pool().lack(exact_pages_of(n));
}

void CudaKvCache::grow(int b, int64_t n, const cuda::Stream& stream) {
  check(b >= 0 && b < batch_ && n <= capacity_, "CudaKvCache: a sequence longer than the cache");
  packed_table_->require(b, packed_pages_of(n));
  exact_table_->require(b, exact_pages_of(n));
  packed_table_->grow(b, packed_pages_of(n), stream);
  exact_table_->grow(b, exact_pages_of(n), stream);
}

void CudaKvCache::release(int b, const cuda::Stream& stream) {
  packed_table_->clear(b, stream);
  exact_table_->clear(b, stream);
}

void CudaKvCache::spoil_free_pages(const cuda::Stream& stream) const {
  const auto spoil = [&](const CudaBlockTable& table, const cuda::Buffer& pages) {
    const int64_t bytes = int64_t(pages.bytes()) / (table.pool().total() + 1);
    const std::vector<uint8_t> ones(size_t(bytes), 0xff);
    for (const int32_t page : table.pool().free_pages())
      cuda::upload(pages.as<uint8_t>() + page * bytes, ones.data(), ones.size(), stream);
    stream.synchronize();
  };
  for (const cuda::Buffer& layer : packed_) spoil(*packed_table_, layer);
  for (const cuda::Buffer& layer : exact_) spoil(*exact_table_, layer);
}

int64_t CudaKvCache::page_bytes_of_exact() const {
  return exact_page_bytes(shape_.n_kv_heads, shape_.layout.head_dim);
}

int64_t CudaKvCache::packed_page_bytes(int layer) const {
  return layers_[size_t(layer)]->packed().page_bytes;
}

float CudaKvCache::scale() const {
  return float(shape_.scale > 0 ? shape_.scale : 1 / std::sqrt(double(shape_.layout.head_dim)));
}

int64_t CudaKvCache::bytes(int64_t n) const {
  int64_t packed = 0;
  for (int l = 0; l < shape_.n_layers && kind_.is_packed(); ++l) packed += packed_page_bytes(l);
  return kv_bytes(window(), n, packed, shape_.n_layers * page_bytes_of_exact());
}

int64_t CudaKvCache::bytes() const {
  int64_t sum = 0;
  for (const std::vector<cuda::Buffer>* pages : {&packed_, &exact_})
    for (const cuda::Buffer& layer : *pages) sum += int64_t(layer.bytes());
  return sum;
}

cuda::PageTable CudaKvCache::packed_pages(int layer) const {
  return {packed_[size_t(layer)].as<uint8_t>(), packed_table_->rows(), packed_table_->stride(),
          lengths_.as<int32_t>()};
}

cuda::PageTable CudaKvCache::exact_pages(int layer) const {
  return {exact_[size_t(layer)].as<uint8_t>(), in_order_.as<int32_t>(), exact_table_->stride(),
          exact_lengths_.as<int32_t>()};
}

namespace {

/// The pages of one sequence, copied to the host, in the order of its page table.
struct HostPages {
  HostPages(const cuda::PageTable& table, int64_t b, int64_t n_pages, int64_t page_bytes,
            const cuda::Stream& stream)
      : bytes(size_t(n_pages * page_bytes)) {
    std::vector<int32_t> ids(static_cast<size_t>(n_pages));
    cuda::download(ids.data(), table.block_table + b * table.stride, ids.size() * sizeof(int32_t), stream);
    stream.synchronize();
    for (int64_t i = 0; i < n_pages; ++i) {
      cuda::download(&bytes[size_t(i * page_bytes)], table.pages + ids[size_t(i)] * page_bytes,
                     size_t(page_bytes), stream);
      pages.push_back(&bytes[size_t(i * page_bytes)]);
    }
    stream.synchronize();
  }
  std::vector<uint8_t> bytes;
  std::vector<const uint8_t*> pages;
};

/// Positions [first, end) of `all`.
PlainPositions part(const PlainPositions& all, int64_t first, int64_t end) {
  const int64_t width = int64_t(all.n_kv_heads) * all.dim;
  const auto cut = [&](const std::vector<double>& x) {
    return std::vector<double>(x.begin() + first * width, x.begin() + end * width);
  };
  return {all.n_kv_heads, all.dim, cut(all.k), cut(all.v)};
}

}  // namespace

PlainPositions CudaKvCache::read(int layer, int b, int64_t n, const cuda::Stream& stream) const {
  const ExactWindow exact = window();
  const int dim = shape_.layout.head_dim, heads = shape_.n_kv_heads;
  const int64_t n_exact = exact_length(exact, n), sink = std::min(n_exact, exact.sink);
  PlainPositions held{heads, dim, {}, {}}, ends = held;
  if (n_exact > 0) {
    const ExactCache cache(heads, dim);
    const HostPages pages(exact_pages(layer), b, pages_of(n_exact), cache.page_bytes(), stream);
    ends = cache.read(pages.pages, n_exact);
  }
  held.append(part(ends, 0, sink));
  if (const int64_t end = std::min(n, packed_end(exact, n)); end > exact.sink) {
    const HostPages pages(packed_pages(layer), b, pages_of(end), packed_page_bytes(layer), stream);
    held.append(make_layer_cache(kind_.packed[size_t(layer)])->read(pages.pages, exact.sink, end));
  }
  held.append(part(ends, sink, n_exact));
  return held;
}

void CudaKvCache::begin_step(const cuda::Stream& stream) const {
  cuda::KvLengths job;
  job.positions = positions();
  job.batch = batch_;
  job.window = window();
  job.ring = int(ring_);
  job.pages = exact_table_->rows();
  job.packed = lengths_.as<int32_t>();
  job.exact = exact_lengths_.as<int32_t>();
  job.starts = exact_starts_.as<int32_t>();
  job.table = in_order_.as<int32_t>();
  job.stride = exact_table_->stride();
  cuda::kv_lengths(job, stream);
}

void CudaKvCache::fill_exact(int layer, const cuda::PageTable& pages, const int32_t* start, int64_t tokens,
                             const void* k, const void* v, const cuda::Stream& stream) const {
  cuda::AppendExact job;
  job.dim = shape_.layout.head_dim;
  job.n_kv_heads = shape_.n_kv_heads;
  job.batch = 1;
  job.cache = pages;
  job.pages = exact_[size_t(layer)].as<uint8_t>();
  job.starts = start;
  job.tokens = tokens;
  job.k = k;
  job.v = v;
  cuda::append_exact(job, stream);
}

/// The first of n new positions behind `first` that will be recent once all of them are held.
int64_t CudaKvCache::first_recent(int64_t first, int64_t n) const {
  return std::max(first, packed_end(window(), first + n));
}

/// Where position t lies in the ring buffer of recent positions, in the order of the page table when `first`
/// positions are held. What comes behind the last page overwrites the oldest ones.
int64_t CudaKvCache::ring_place(int64_t first, int64_t t) const {
  return ring_ > 0 ? (t - packed_end(window(), first)) % (ring_ * kPagePositions) : 0;
}

void CudaKvCache::begin_chunk(int b, int64_t first, int64_t n, const cuda::Stream& stream) const {
  check(b >= 0 && b < batch_ && first >= 0 && n > 0 && first + n <= capacity_, "CudaKvCache: a chunk");
  const auto last_held = int32_t(first) - 1;
  const int32_t starts[] = {int32_t(first),
                            int32_t(window().sink + ring_place(first, first_recent(first, n)))};
  cuda::upload(positions() + b, &last_held, sizeof last_held, stream);
  cuda::upload(starts_.as(), starts, sizeof starts, stream);
  begin_step(stream);
  stream.synchronize();  // the copy reads words of the host, which end here
}

/// Fills in all of a chunk behind `first` positions except its tokens. exact: what chunk.exact will point to.
void CudaKvCache::describe(int layer, int b, int64_t first, cuda::PrefillAttention& chunk,
                           cuda::ExactPages& exact) const {
  const ExactWindow w = window();
  chunk.dim = shape_.layout.head_dim;
  chunk.n_heads = shape_.n_heads;
  chunk.n_kv_heads = shape_.n_kv_heads;
  chunk.batch = 1;
  chunk.scale = scale();
  chunk.rule = rule(layer);
  if (kind_.is_packed() && packed_end(w, first) > w.sink) {
    layers_[size_t(layer)]->describe(chunk);
    chunk.cache = row_of(packed_pages(layer), b);
    chunk.first_page = int(w.sink / kPagePositions);
    chunk.longest = packed_end(w, first);
  }
  if (exact_length(w, first) > 0) {
    exact = {row_of(exact_pages(layer), b), exact_length(w, first)};
    chunk.exact = &exact;
  }
}

int64_t CudaKvCache::scratch_bytes(int64_t first, int64_t n) const {
  int64_t most = 0;
  for (int l = 0; l < shape_.n_layers; ++l) {
    cuda::PrefillAttention chunk;
    cuda::ExactPages exact;
    describe(l, 0, first, chunk, exact);
    chunk.tokens = n;
    most = std::max(most, cuda::prefill_scratch_bytes(chunk));
  }
  return most;
}

void CudaKvCache::attend_chunk(int layer, int b, int64_t first, cuda::PrefillAttention chunk, void* scratch,
                               const cuda::Stream& stream, const float* sinks) const {
  cuda::ExactPages exact;
  describe(layer, b, first, chunk, exact);
  chunk.rule.sinks = sinks;
  cuda::prefill_attention(chunk, scratch, stream);
}

void CudaKvCache::fill(int layer, int b, int64_t first, int64_t n, const void* k, const void* v,
                       const cuda::Stream& stream) const {
  const ExactWindow exact = window();
  const int32_t* const starts = starts_.as<int32_t>();
  const int64_t end = first + n, width = int64_t(shape_.n_kv_heads) * shape_.layout.head_dim;
  const auto put = [&](const int32_t* start, int64_t from, int64_t to) {
    const int64_t at = (from - first) * width;
    fill_exact(layer, row_of(exact_pages(layer), b), start, to - from, static_cast<const uint16_t*>(k) + at,
               static_cast<const uint16_t*>(v) + at, stream);
  };
  if (first < exact.sink) put(starts, first, std::min(end, exact.sink));
  if (const int64_t from = first_recent(first, n); exact.recent > 0 && from < end) {
    const int64_t room = ring_ * kPagePositions - ring_place(first, from), round = std::min(end, from + room);
    put(starts + 1, from, round);
    put(starts + 2, round, end);  // the ring wraps around at most once
  }
  if (!kind_.is_packed()) return;
  cuda::EncodeTokens job;
  job.cache = row_of(packed_pages(layer), b);
  job.pages = packed_[size_t(layer)].as<uint8_t>();
  job.starts = starts;
  job.batch = 1;
  job.tokens = n;
  job.k = k;
  job.v = v;
  layers_[size_t(layer)]->encode(job, stream);
}

cuda::AttentionRule CudaKvCache::rule(int layer) const {
  cuda::AttentionRule rule;
  const int64_t seen = shape_.window(layer);
  if (seen < capacity_) rule.window = seen;  // a longer window has no effect
  rule.positions = positions();
  rule.softcap = float(shape_.softcap);
  return rule;
}

void CudaKvCache::attend(int layer, cuda::AppendToken token, void* out, int64_t longest,
                         const cuda::Stream& stream, const float* sinks) const {
  const ExactWindow exact = window();
  cuda::ExactPages exact_part;
  token.batch = batch_;
  token.n_heads = shape_.n_heads;
  token.n_kv_heads = shape_.n_kv_heads;
  token.dim = shape_.layout.head_dim;
  token.positions = positions();
  token.rope_factor = float(shape_.rope(layer).attention_factor);
  if (!exact_.empty()) {
    // Not exact_length(longest): a window that has just freed a page is shorter than one before that.
    const int64_t most = exact.sink + (exact.recent > 0 ? exact.recent + kPagePositions - 1 : 0);
    exact_part = {exact_pages(layer), std::min(longest, most), kind_.is_packed() ? exact.sink : 0};
    token.exact_pages = exact_[size_t(layer)].as<uint8_t>();
    token.exact = exact_part.cache;
    token.exact_starts = exact_starts_.as<int32_t>();
  }
  cuda::AttentionRule how = rule(layer);
  how.sinks = sinks;
  if (!kind_.is_packed()) {
    cuda::append_token(token, stream);
    cuda::ExactAttention step;
    step.dim = token.dim;
    step.n_heads = token.n_heads;
    step.n_kv_heads = token.n_kv_heads;
    step.batch = batch_;
    step.pages = exact_part;
    step.q = token.q;
    step.out = out;
    step.scale = scale();
    step.rule = how;
    return cuda::exact_attention(step, scratch_.as(), stream);
  }
  token.packed_pages = packed_[size_t(layer)].as<uint8_t>();
  token.packed = packed_pages(layer);
  token.k = token_k_.as();
  token.v = token_v_.as();
  layers_[size_t(layer)]->append(token, stream);
  cuda::DecodeAttention step;
  step.cache = token.packed;
  step.batch = batch_;
  step.longest = packed_end(exact, longest);
  step.first_page = int(sinks_);
  step.fresh = 1;
  step.exact = exact_.empty() ? nullptr : &exact_part;
  step.q = token.q;
  step.out = out;
  step.scale = scale();
  step.rule = how;
  layers_[size_t(layer)]->attend(step, scratch_.as(), stream);
}

}  // namespace blockgtq
