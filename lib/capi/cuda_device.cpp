// Pages in device memory, by the kernels of kernels/cache. Nothing here allocates or waits but the
// constructor and read().
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cache/cuda_layer_cache.h"
#include "cache/exact_page.h"
#include "capi/page_device.h"
#include "capi/scratch.h"
#include "capi/status.h"
#include "kernels/cache/copy_rows.h"
#include "kernels/cache/exact_attention.h"
#include "kernels/cache/kv_lengths.h"
#include "kernels/device/pointer.h"
#include "serve/kv_kind.h"

namespace blockgtq::capi {
namespace {

/// Makes a device current for this thread, and the one before it afterwards.
class OnDevice {
 public:
  explicit OnDevice(int device) : before_(cuda::current_device()), device_(device) {
    if (before_ != device_) cuda::set_device(device_);
  }
  OnDevice(const OnDevice&) = delete;
  ~OnDevice() {
    if (before_ == device_) return;
    try {
      cuda::set_device(before_);
    } catch (...) {  // it was current a moment ago
    }
  }

 private:
  int before_, device_;
};

cuda::FloatType type_of(blockgtq_dtype type) {
  return type == BLOCKGTQ_F32    ? cuda::FloatType::f32
         : type == BLOCKGTQ_BF16 ? cuda::FloatType::bf16
                                 : cuda::FloatType::f16;
}

cuda::StridedRows strided(const Rows& x) {
  return {x.data, type_of(x.type), x.sequence, x.token, x.head};
}

/// An array of the same shape, contiguous and in fp16.
Rows dense_half(const Rows& like, int64_t tokens, int dim, void* data) {
  return {data, BLOCKGTQ_F16, tokens * like.heads * dim, like.heads * int64_t(dim), dim, like.heads, true};
}

int64_t half_bytes(const Rows& x, int batch, int64_t tokens, int dim) {
  return int64_t(batch) * tokens * x.heads * dim * 2;
}

/// Whether kernels take the array as it is, if its type is one of theirs. Asked for without pointers,
/// alignment is taken to be there: who has not, pays for it with scratch that he did not ask for, and is
/// told.
bool in_place(const Rows& x) {
  return x.dense && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}
bool half_in_place(const Rows& x) {
  return x.type == BLOCKGTQ_F16 && in_place(x);
}
/// Arrays of one type of 16 bits.
bool both_in_place(const Rows& x, const Rows& y) {
  return x.type == y.type && x.type != BLOCKGTQ_F32 && in_place(x) && in_place(y);
}

cuda::PageTable table_of(const blockgtq_pages& pages) {
  return {static_cast<const uint8_t*>(pages.data), pages.block_table, pages.stride, pages.lengths};
}

cuda::AttentionRule rule_of(const Rule& from) {
  cuda::AttentionRule rule;
  rule.window = from.window;
  rule.positions = from.positions;
  rule.softcap = float(from.softcap);
  rule.sinks = from.sinks;
  return rule;
}

class CudaDevice final : public PageDevice {
 public:
  explicit CudaDevice(const Opened& opened) : opened_(opened) {
    const OnDevice here(opened.device);
    const cuda::Stream stream;
    for (const PackedSpec& spec : opened.specs)
      packed_.push_back(make_cuda_layer_cache(spec, opened.longest, stream));
    try_kernel(stream);
  }

  int64_t table_bytes() const override {
    int64_t bytes = 0;
    for (const auto& layer : packed_) bytes += layer->table_bytes();
    return bytes;
  }

  int64_t encode_scratch(const Encode& job) const override {
    if (both_in_place(job.k, job.v)) return 0;
    Scratch scratch(nullptr);
    for (const Rows* x : {&job.k, &job.v}) scratch.take(half_bytes(*x, job.batch, job.tokens, dim()));
    return scratch.bytes();
  }

  void encode(const Encode& job) const override {
    const OnDevice here(opened_.device);
    require_pages("pages", job.pages);
    require_pages("exact", job.exact);
    require_here("k", job.k.data);
    require_here("v", job.v.data);
    require_scratch_here(job.scratch, job.scratch_bytes, encode_scratch(job));
    const cuda::Stream stream(job.stream);
    Rows k = job.k, v = job.v;
    if (!both_in_place(job.k, job.v)) {
      Scratch scratch(job.scratch);
      std::vector<cuda::CopyRows> copies;
      for (Rows* x : {&k, &v}) {
        const Rows to =
            dense_half(*x, job.tokens, dim(), scratch.take(half_bytes(*x, job.batch, job.tokens, dim())));
        copies.push_back({strided(*x), strided(to), x->heads});
        *x = to;
      }
      cuda::copy_rows(copies, job.batch, job.tokens, dim(), stream);
    }
    if (job.pages.data && opened_.packed()) encode_packed(job, k, v, stream);
    if (job.pages.data && !opened_.packed()) append_exact(job, job.pages, k, v, stream);
    if (job.exact.data) append_exact(job, job.exact, k, v, stream);
  }

  int64_t decode_scratch(const Attention& a) const override {
    Scratch scratch(nullptr);
    scratch.take(sums_bytes(a));
    if (both_in_place(a.q, a.out)) return scratch.bytes();
    for (const Rows* x : {&a.q, &a.out}) scratch.take(half_bytes(*x, a.batch, 1, dim()));
    return scratch.bytes();
  }

  void decode(const Attention& a) const override {
    const OnDevice here(opened_.device);
    require_context(a);
    require_here("q", a.q.data);
    require_here("out", a.out.data);
    require_here("rule.positions", a.rule.positions);
    require_here("rule.sinks", a.rule.sinks);
    require_scratch_here(a.scratch, a.scratch_bytes, decode_scratch(a));
    const cuda::Stream stream(a.stream);
    Scratch scratch(a.scratch);
    void* const sums = scratch.take(sums_bytes(a));
    Attention step = a;
    const bool direct = both_in_place(a.q, a.out);
    if (!direct) {
      for (Rows* x : {&step.q, &step.out})
        *x = dense_half(*x, 1, dim(), scratch.take(half_bytes(*x, a.batch, 1, dim())));
      copy({{strided(a.q), strided(step.q), a.q.heads}}, a, stream);
    }
    if (opened_.packed())
      attend_packed(step, direct, sums, stream);
    else
      attend_exact(step, sums, stream);
    if (!direct) copy({{strided(step.out), strided(a.out), a.out.heads}}, a, stream);
  }

  int64_t prefill_scratch(const Attention& a) const override {
    const OnDevice here(opened_.device);
    Scratch scratch(nullptr);
    cuda::ExactPages exact;
    scratch.take(cuda::prefill_scratch_bytes(chunk_of(a, exact)));
    for (const Rows* x : {&a.q, &a.k, &a.v, &a.out})
      if (!half_in_place(*x)) scratch.take(half_bytes(*x, a.batch, a.tokens, dim()));
    return scratch.bytes();
  }

  void prefill(const Attention& a) const override {
    const OnDevice here(opened_.device);
    require_context(a);
    for (const auto& [name, rows] : {std::pair("q", &a.q), {"k", &a.k}, {"v", &a.v}, {"out", &a.out}})
      require_here(name, rows->data);
    require_here("rule.sinks", a.rule.sinks);
    require_scratch_here(a.scratch, a.scratch_bytes, prefill_scratch(a));
    const cuda::Stream stream(a.stream);
    Scratch scratch(a.scratch);
    cuda::ExactPages exact;
    cuda::PrefillAttention chunk = chunk_of(a, exact);
    void* const tiles = scratch.take(cuda::prefill_scratch_bytes(chunk));
    const auto half = [&](const Rows& x) {
      if (half_in_place(x)) return x;
      return dense_half(x, a.tokens, dim(), scratch.take(half_bytes(x, a.batch, a.tokens, dim())));
    };
    std::vector<cuda::CopyRows> copies;
    const auto input = [&](const Rows& x) {
      const Rows to = half(x);
      if (to.data != x.data) copies.push_back({strided(x), strided(to), x.heads});
      return to.data;
    };
    chunk.q = input(a.q);
    chunk.k = input(a.k);
    chunk.v = input(a.v);
    const Rows out = half(a.out);
    chunk.out = out.data;
    if (!copies.empty()) copy(copies, a, stream);
    cuda::prefill_attention(chunk, tiles, stream);
    if (out.data != a.out.data) copy({{strided(out), strided(a.out), out.heads}}, a, stream);
  }

  void split(const blockgtq_split_args& a) const override {
    const OnDevice here(opened_.device);
    for (const void* pointer : std::initializer_list<const void*>{
             a.held, a.exact_pages, a.packed_lengths, a.exact_lengths, a.exact_starts, a.exact_table})
      require_here("an array", pointer);
    cuda::KvLengths job;
    job.positions = a.held;
    job.batch = a.batch;
    job.window = {a.sink, a.recent};
    job.stride = exact_columns(a.sink, a.recent);
    job.ring = int(ring_pages(job.window));
    job.pages = a.exact_pages;
    job.packed = a.packed_lengths;
    job.exact = a.exact_lengths;
    job.starts = a.exact_starts;
    job.table = a.exact_table;
    cuda::kv_lengths(job, cuda::Stream(a.stream));
  }

  void read(const Read& job) const override;

 private:
  int dim() const { return opened_.dim(); }

  /// An architecture without kernels is found here, not in the first call.
  void try_kernel(const cuda::Stream& stream) const {
    const cuda::Buffer rows(64);
    const auto at = [&](int byte) {
      return cuda::StridedRows{rows.as<uint8_t>() + byte, cuda::FloatType::f16, 8, 8, 8};
    };
    const cuda::CopyRows job{at(0), at(32), 1};
    cuda::copy_rows({&job, 1}, 1, 1, 8, stream);
    stream.synchronize();
  }

  void require_here(const char* name, const void* pointer) const {
    if (!pointer || opened_.trust_pointers) return;
    const int device = cuda::device_of(pointer);
    require(device != cuda::kNoDevice, "{}: host memory, memory of cuda:{} is expected", name,
            opened_.device);
    require(device == opened_.device || device == cuda::kAnyDevice,
            "{}: memory of cuda:{}, of cuda:{} is expected", name, device, opened_.device);
  }
  void require_pages(const char* name, const blockgtq_pages& pages) const {
    for (const void* pointer :
         std::initializer_list<const void*>{pages.data, pages.block_table, pages.lengths, pages.starts})
      require_here(name, pointer);
  }
  void require_context(const Attention& a) const {
    require_pages("pages", a.pages);
    require_pages("exact", a.exact);
  }
  void require_scratch_here(const void* scratch, int64_t bytes, int64_t needed) const {
    require_scratch(scratch, bytes, needed);
    if (needed > 0) require_here("scratch", scratch);
  }

  void copy(const std::vector<cuda::CopyRows>& copies, const Attention& a, const cuda::Stream& stream) const {
    for (size_t i = 0; i < copies.size(); i += cuda::kMostCopies) {
      const size_t n = std::min<size_t>(cuda::kMostCopies, copies.size() - i);
      cuda::copy_rows({&copies[i], n}, a.batch, a.tokens, dim(), stream);
    }
  }

  void encode_packed(const Encode& job, const Rows& k, const Rows& v, const cuda::Stream& stream) const {
    cuda::EncodeTokens tokens;
    tokens.cache = table_of(job.pages);
    tokens.pages = static_cast<uint8_t*>(job.pages.data);
    tokens.starts = job.pages.starts;
    tokens.batch = job.batch;
    tokens.tokens = job.tokens;
    tokens.k = k.data;
    tokens.v = v.data;
    tokens.type = type_of(k.type);
    packed_[size_t(job.layer)]->encode(tokens, stream);
  }

  void append_exact(const Encode& job, const blockgtq_pages& pages, const Rows& k, const Rows& v,
                    const cuda::Stream& stream) const {
    cuda::AppendExact tokens;
    tokens.dim = dim();
    tokens.n_kv_heads = opened_.shape.n_kv_heads;
    tokens.batch = job.batch;
    tokens.cache = table_of(pages);
    tokens.pages = static_cast<uint8_t*>(pages.data);
    tokens.starts = pages.starts;
    tokens.tokens = job.tokens;
    tokens.k = k.data;
    tokens.v = v.data;
    tokens.type = type_of(k.type);
    cuda::append_exact(tokens, stream);
  }

  int64_t sums_bytes(const Attention& a) const {
    const CudaLayerCache* const layer = opened_.packed() ? packed_[size_t(a.layer)].get() : nullptr;
    return most_scratch_bytes(opened_.shape, layer, a.batch, a.exact.n_pages > 0);
  }

  cuda::ExactPages exact_of(const Attention& a) const {
    return {table_of(a.exact), a.exact.longest, a.exact_first};
  }

  /// A step over packed pages, without its queries.
  cuda::DecodeAttention step_of(const Attention& a, const cuda::ExactPages* exact) const {
    cuda::DecodeAttention step;
    step.cache = table_of(a.pages);
    step.batch = a.batch;
    step.longest = a.pages.longest;
    step.first_page = a.first_page;
    step.exact = exact;
    step.scale = float(a.rule.scale);
    step.rule = rule_of(a.rule);
    return step;
  }

  /// direct: no array was copied for it.
  void attend_packed(const Attention& a, bool direct, void* sums, const cuda::Stream& stream) const {
    const cuda::ExactPages exact = exact_of(a);
    cuda::DecodeAttention step = step_of(a, a.exact.data ? &exact : nullptr);
    // The kernel before this step is the encoder, or the one that copied q, which ended after it. With exact
    // pages it is their writer, and the encoder before it may still run.
    step.fresh = !a.just_encoded || step.exact ? -1 : direct ? 1 : 0;
    step.q = a.q.data;
    step.out = a.out.data;
    step.type = type_of(a.q.type);
    packed_[size_t(a.layer)]->attend(step, sums, stream);
  }

  void attend_exact(const Attention& a, void* sums, const cuda::Stream& stream) const {
    cuda::ExactAttention step;
    step.dim = dim();
    step.n_heads = opened_.shape.n_heads;
    step.n_kv_heads = opened_.shape.n_kv_heads;
    step.batch = a.batch;
    step.pages = {table_of(a.pages), a.pages.longest, 0};
    step.q = a.q.data;
    step.out = a.out.data;
    step.type = type_of(a.q.type);
    step.scale = float(a.rule.scale);
    step.rule = rule_of(a.rule);
    cuda::exact_attention(step, sums, stream);
  }

  /// A chunk without its tokens. exact: what chunk.exact will point to.
  cuda::PrefillAttention chunk_of(const Attention& a, cuda::ExactPages& exact) const {
    cuda::PrefillAttention chunk;
    chunk.dim = dim();
    chunk.n_heads = opened_.shape.n_heads;
    chunk.n_kv_heads = opened_.shape.n_kv_heads;
    chunk.batch = a.batch;
    chunk.tokens = a.tokens;
    chunk.scale = float(a.rule.scale);
    chunk.rule = rule_of(a.rule);
    const bool pages = a.pages.longest > 0;
    if (pages && opened_.packed()) {
      packed_[size_t(a.layer)]->describe(chunk);
      chunk.cache = table_of(a.pages);
      chunk.first_page = a.first_page;
      chunk.longest = a.pages.longest;
    }
    if (a.exact.longest > 0) {
      exact = exact_of(a);
      chunk.exact = &exact;
    } else if (pages && !opened_.packed()) {
      exact = {table_of(a.pages), a.pages.longest, 0};
      chunk.exact = &exact;
    }
    return chunk;
  }

  const Opened& opened_;
  std::vector<std::unique_ptr<CudaLayerCache>> packed_;  // (L), or empty
};

/// The pages of a job, copied to the host, which decodes them.
void CudaDevice::read(const Read& job) const {
  const OnDevice here(opened_.device);
  require_pages("pages", job.pages);
  require_here("k", job.k.data);
  require_here("v", job.v.data);
  const cuda::Stream stream(job.stream);
  const int64_t pitch = job.exact ? opened_.exact_page_bytes() : opened_.layers[size_t(job.layer)].page_pitch;
  const int64_t first = job.first / kPagePositions, end = (job.first + job.tokens - 1) / kPagePositions + 1;
  const int64_t each = end - first;
  std::vector<int32_t> ids(size_t(job.batch * each)), in_order(size_t(job.batch * end));
  cuda::download_rows_now(ids.data(), job.pages.block_table + first, size_t(each) * sizeof(int32_t),
                          size_t(job.pages.stride) * sizeof(int32_t), size_t(job.batch), job.stream);
  std::vector<uint8_t> bytes(ids.size() * size_t(pitch));
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t b = int64_t(i) / each, page = first + int64_t(i) % each;
    if (ids[i] < 0 || ids[i] >= job.pages.n_pages)
      fail(BLOCKGTQ_PAGES, "pages.block_table[{}][{}]: page {}, there are {}", b, page, ids[i],
           job.pages.n_pages);
    cuda::download(&bytes[i * size_t(pitch)], static_cast<const uint8_t*>(job.pages.data) + ids[i] * pitch,
                   size_t(pitch), stream);
    in_order[size_t(b * end + page)] = int32_t(i);
  }
  stream.synchronize();
  const size_t n = size_t(job.batch * job.tokens) * size_t(job.k.heads * dim());
  std::vector<float> k(n), v(n);
  Read on_host = job;
  on_host.pages.data = bytes.data();
  on_host.pages.n_pages = int64_t(ids.size());
  on_host.pages.block_table = in_order.data();
  on_host.pages.stride = end;
  on_host.stream = nullptr;
  const auto dense = [&](std::vector<float>& x) {
    return Rows{
        x.data(),    BLOCKGTQ_F32, job.tokens * job.k.heads * dim(), job.k.heads * int64_t(dim()), dim(),
        job.k.heads, true};
  };
  on_host.k = dense(k);
  on_host.v = dense(v);
  make_cpu_device(opened_)->read(on_host);
  const cuda::Buffer staged(2 * n * sizeof(float));
  cuda::upload(staged.as(), k.data(), n * sizeof(float), stream);
  cuda::upload(staged.as<float>() + n, v.data(), n * sizeof(float), stream);
  Rows from_k = on_host.k, from_v = on_host.v;
  from_k.data = staged.as();
  from_v.data = staged.as<float>() + n;
  const cuda::CopyRows copies[] = {{strided(from_k), strided(job.k), job.k.heads},
                                   {strided(from_v), strided(job.v), job.v.heads}};
  cuda::copy_rows(copies, job.batch, job.tokens, dim(), stream);
  stream.synchronize();
}

}  // namespace

const char* const kCudaText = "CUDA";

std::unique_ptr<PageDevice> make_cuda_device(const Opened& opened) {
  return std::make_unique<CudaDevice>(opened);
}

int current_cuda_device() {
  return cuda::current_device();
}

}  // namespace blockgtq::capi
