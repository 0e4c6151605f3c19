#include "bench_cache.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/float16.h"
#include "base/parallel.h"
#include "cache/cuda_layer_cache.h"
#include "cache/trellis_page.h"
#include "kernels/cache/packed_prefill.h"
#include "kernels/device/graph.h"
#include "quant/allocator.h"
#include "quant/codebook.h"
#include "quant/random.h"
#include "quant/rotation.h"

namespace blockgtq {
namespace {

constexpr size_t kBeyondCaches = size_t(256) << 20;

/// Groups of `widths`, each with a rotation of its own.
LinearCode make_code(int dim, const std::vector<GroupWidth>& widths, bool one_norm) {
  LinearCode code;
  code.dim = dim;
  code.one_norm = one_norm;
  code.forward.assign(size_t(dim) * dim, 0.0f);
  code.backward = code.forward;
  int first = 0;
  for (const auto& [d, bits] : widths) {
    const auto rotation = shared_rotation(d, 42 + uint64_t(bits));
    for (int i = 0; i < d; ++i)
      for (int j = 0; j < d; ++j) {
        const float r = (*rotation)[size_t(i) * d + j];
        code.forward[size_t(first + i) * dim + first + j] = r;
        code.backward[size_t(first + j) * dim + first + i] = r;
      }
    LinearCode::Group group{d, bits, {}};
    for (const double c : normal_codebook(bits))
      group.centroids.push_back(float(c / std::sqrt(one_norm ? dim : d)));
    code.groups.push_back(group);
    first += d;
  }
  return code;
}

std::vector<GroupWidth> mixed_widths(const CacheBench& b, uint64_t seed) {
  const int n_blocks = b.head_dim / 2;
  Random random(seed);
  std::vector<double> energy(n_blocks);
  for (double& e : energy) e = std::exp2(-b.spread * random.next_double());
  AllocatorSpec spec;
  spec.allocator = b.group_blocks > 1 ? Allocator::exact : Allocator::greedy;
  spec.group_blocks = b.group_blocks;
  const std::vector<int64_t> capacity = {int64_t(b.key_bits) * n_blocks};
  int count[9] = {};
  const std::vector<Allocation> allocation = allocate_head({energy, {}, {}}, spec, capacity);
  for (const uint8_t bits : allocation[0].bits) count[bits] += 2;
  std::vector<GroupWidth> out;
  for (int bits = 1; bits <= 8; ++bits)
    if (count[bits] > 0) out.push_back({count[bits], bits});
  return out;
}

constexpr int64_t kDistinct = 32;  // pages that differ

/// Pages with random codes and plain norms.
std::vector<uint8_t> random_pages(const PackedSpec& spec) {
  const PageShape shape = page_shape(spec);
  std::vector<uint8_t> some(kDistinct * shape.bytes);
  Random random(7);
  for (uint8_t& byte : some) byte = uint8_t(random.next_u64() >> 20);
  const auto put_norms = [&](uint8_t* from, const uint8_t* to) {
    for (; from < to; from += 2) {
      const uint16_t norm = to_half(float(1 + random.next_double()));
      from[0] = uint8_t(norm), from[1] = uint8_t(norm >> 8);
    }
  };
  for (int64_t p = 0; p < kDistinct; ++p)
    for (size_t h = 0; h < shape.blocks.size(); ++h) {
      const BlockShape& block = shape.blocks[h];
      uint8_t* const at = &some[p * shape.bytes + shape.offsets[h]];
      const int norms_end = spec.n_centres() > 0 ? block.value_centre_offset : block.bytes;
      if (spec.key[h].groups[0].trellis) {  // as many bytes in another order
        const int dim = spec.layout.head_dim, bits = spec.key[h].groups[0].bits;
        put_norms(at + trellis_code_bytes(dim, bits), at + trellis_side_bytes(dim, bits));
        put_norms(at + block.value_norm_offset, at + norms_end);
      } else {
        put_norms(at + block.key_norm_offset, at + norms_end);
      }
      if (spec.n_centres() > 0)
        for (uint8_t* number = at + norms_end; number < at + block.bytes; ++number)
          *number = uint8_t(*number % spec.n_centres());
    }
  return some;
}

template <class T>
cuda::Buffer to_device(const std::vector<T>& values, const cuda::Stream& stream) {
  cuda::Buffer buffer(values.size() * sizeof(T));
  cuda::upload(buffer.as(), values.data(), buffer.bytes(), stream);
  stream.synchronize();
  return buffer;
}

std::vector<uint16_t> random_halves(int64_t n, uint64_t seed) {
  std::vector<uint16_t> out(n);
  Random random(seed);
  std::vector<uint16_t> some(1 << 16);
  for (uint16_t& x : some) x = to_half(float(random.standard_normal()));
  for (int64_t i = 0; i < n; ++i) out[i] = some[(i + (i >> 16) * 977) % some.size()];
  return out;
}

std::vector<uint8_t> random_exact_pages(const CacheBench& b) {
  const std::vector<uint16_t> halves =
      random_halves(kDistinct * exact_page_bytes(b.kv_heads, b.head_dim) / 2, 11);
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(halves.data());
  return {bytes, bytes + halves.size() * 2};
}

/// Pages of a batch of sequences, in any order, in as many places as wanted.
class Paged {
 public:
  /// some: kDistinct pages, repeated; length: of every sequence, in pages of the first `capacity` positions.
  Paged(const std::vector<uint8_t>& some, int64_t capacity, int64_t length, int batch, int64_t n_sets,
        const cuda::Stream& stream)
      : each_((capacity + kPagePositions - 1) / kPagePositions) {
    const int64_t n_pages = each_ * batch, bytes = n_pages * int64_t(some.size()) / kDistinct;
    for (int64_t set = 0; set < n_sets; ++set) {
      pages_.emplace_back(bytes);
      for (int64_t at = 0; at < bytes && set == 0; at += int64_t(some.size()))
        cuda::upload(pages_[0].as<uint8_t>() + at, some.data(),
                     std::min<int64_t>(int64_t(some.size()), bytes - at), stream);
      if (set > 0) cuda::copy_on_device(pages_[set].as(), pages_[0].as(), bytes, stream);
    }
    std::vector<int32_t> table(n_pages);
    for (int64_t i = 0; i < n_pages; ++i) table[i] = int32_t(i);
    Random random(3);
    for (int64_t i = n_pages - 1; i > 0; --i) std::swap(table[i], table[random.next_u64() % uint64_t(i + 1)]);
    table_ = to_device(table, stream);
    lengths_ = to_device(std::vector<int32_t>(batch, int32_t(length)), stream);
  }
  cuda::PageTable set(int64_t i) const {
    return {pages_[i].as<uint8_t>(), table_.as<int32_t>(), each_, lengths_.as<int32_t>()};
  }

 private:
  int64_t each_;
  std::vector<cuda::Buffer> pages_;
  cuda::Buffer table_, lengths_;
};

/// Median microseconds of what `launch` puts on the stream; three runs before warm up.
double median_microseconds(const cuda::Stream& stream, int repeat, const std::function<void()>& launch) {
  std::vector<double> us;
  for (int i = -3; i < repeat; ++i) {
    cuda::Event before, after;
    before.record(stream);
    launch();
    after.record(stream);
    after.synchronize();
    if (i >= 0) us.push_back(1e3 * after.milliseconds_since(before));
  }
  std::nth_element(us.begin(), us.begin() + us.size() / 2, us.end());
  return us[us.size() / 2];
}

}  // namespace

PackedSpec bench_spec(const CacheBench& b, uint64_t seed) {
  PackedSpec spec;
  spec.layout = {b.head_dim, b.head_dim, Pairing::half};
  for (int i = 0; i < b.head_dim / 2; ++i) spec.inv_freq.push_back(std::pow(1e6, -2.0 * i / b.head_dim));
  spec.n_heads = b.heads;
  const bool mixed = b.keys != "uniform" && b.keys != "trellis";
  for (int h = 0; h < b.kv_heads; ++h) {
    const std::vector<GroupWidth> uniform = {{b.head_dim, b.key_bits}};
    spec.key.push_back(make_code(b.head_dim, mixed ? mixed_widths(b, seed * 64 + uint64_t(h)) : uniform,
                                 b.keys != "published"));
    spec.value.push_back(make_code(b.head_dim, {{b.head_dim, b.value_bits}}, true));
    if (b.keys == "trellis")
      for (LinearCode* code : {&spec.key.back(), &spec.value.back()}) *code = with_trellis(*code);
    Random random{uint64_t(h)};  // the same in all layers: see encoder_rows()
    if (b.keys == "centred")
      for (LinearCode* code : {&spec.key.back(), &spec.value.back()})
        for (int d = 0; d < b.head_dim; ++d) code->mean.push_back(float(3 * random.standard_normal()));
    for (int i = 0; i < b.centres * b.head_dim; ++i)
      spec.value.back().centres.push_back(float(random.standard_normal()));
    for (LinearCode* code : {&spec.key.back(), &spec.value.back()}) *code = paged(*code);
  }
  return spec;
}

namespace {

/// What all layers are packed with, on the host and on the device.
struct Layers {
  Layers(const CacheBench& b, int64_t longest, const cuda::Stream& stream) {
    for (int l = 0; l < b.layers; ++l) {
      specs.push_back(bench_spec(b, uint64_t(l)));
      caches.push_back(make_cuda_layer_cache(specs[l], longest, stream));
      if (page_bytes(l) > page_bytes(largest)) largest = l;
    }
  }
  int64_t page_bytes(int64_t l) const { return caches[l]->packed().page_bytes; }
  std::vector<PackedSpec> specs;
  std::vector<std::unique_ptr<CudaLayerCache>> caches;
  int largest = 0;  // the layer with the longest pages
};

/// As many sets of pages as layers, and so many that no cache on the chip holds them.
int64_t sets_of(const CacheBench& b, const Layers& layers, int64_t n_pages) {
  const int64_t bytes = n_pages * layers.page_bytes(layers.largest);
  return std::max<int64_t>(b.layers, (int64_t(kBeyondCaches) + bytes - 1) / bytes);
}

double mean_page_bytes(const Layers& layers) {
  double bytes = 0;
  for (size_t l = 0; l < layers.specs.size(); ++l)
    bytes += double(layers.page_bytes(int64_t(l))) / double(layers.specs.size());
  return bytes;
}

}  // namespace

double copy_rate(int repeat) {
  const cuda::Stream stream;
  const size_t bytes = size_t(1) << 30;
  const cuda::Buffer from = to_device(random_halves(int64_t(bytes / 2), 9), stream), to(bytes);
  return 2e6 * double(bytes) / median_microseconds(stream, repeat, [&] {
           cuda::copy_on_device(to.as(), from.as(), bytes, stream);
         });
}

namespace {

/// launch(set) for all sets inside a CUDA graph; time of one.
double graph_microseconds(const CacheBench& b, int64_t n_sets, const cuda::Stream& stream,
                          const std::function<void(int64_t)>& launch) {
  const auto all = [&] {
    for (int64_t set = 0; set < n_sets; ++set) launch(set);
  };
  all();  // whatever is set up at a first launch
  stream.synchronize();
  const cuda::Graph graph(stream, all);
  return median_microseconds(stream, b.repeat, [&] { graph.replay(stream); }) / double(n_sets);
}

/// Bytes of the exact positions of a batch, in parts of pages.
double exact_bytes(const CacheBench& b, int64_t length) {
  return double((length + kPartPositions - 1) / kPartPositions) * exact_part_bytes(b.head_dim) * b.kv_heads *
         b.batch;
}

CacheTime time_exact(const CacheBench& b) {
  constexpr double kMost = double(int64_t(8) << 30);  // of all sets together
  const cuda::Stream stream;
  CacheTime time;
  time.bytes = exact_bytes(b, b.context);
  time.bytes_per_position = 4 * b.head_dim;
  const int64_t n_sets = std::max<int64_t>(std::min<int64_t>(b.layers, int64_t(kMost / time.bytes)),
                                           int64_t(double(kBeyondCaches) / time.bytes) + 1);
  const Paged paged(random_exact_pages(b), b.context, b.context, b.batch, n_sets, stream);
  const int64_t width = int64_t(b.batch) * b.heads * b.head_dim;
  const cuda::Buffer q = to_device(random_halves(width, 1), stream), out(width * 2);
  const auto step_of = [&](int64_t set) {
    cuda::ExactAttention step;
    step.dim = b.head_dim;
    step.n_heads = b.heads;
    step.n_kv_heads = b.kv_heads;
    step.batch = b.batch;
    step.pages = {paged.set(set), b.context};
    step.q = q.as();
    step.out = out.as();
    step.scale = 1 / std::sqrt(float(b.head_dim));
    return step;
  };
  const cuda::Buffer scratch(cuda::exact_scratch_bytes(step_of(0)));
  time.microseconds = graph_microseconds(
      b, n_sets, stream, [&](int64_t set) { cuda::exact_attention(step_of(set), scratch.as(), stream); });
  return time;
}

}  // namespace

CacheTime time_decode(const CacheBench& b) {
  if (b.keys == "fp16") return time_exact(b);
  const cuda::Stream stream;
  const Layers layers(b, b.context, stream);
  const int64_t n_sets = sets_of(b, layers, (b.context + kPagePositions - 1) / kPagePositions * b.batch);
  const int64_t n_packed = packed_end(b.window, b.context), n_exact = exact_length(b.window, b.context);
  const Paged packed(random_pages(layers.specs[layers.largest]), b.context, n_packed, b.batch, n_sets,
                     stream);
  std::unique_ptr<Paged> exact;
  std::vector<cuda::ExactPages> exact_sets;
  if (n_exact > 0) {
    exact = std::make_unique<Paged>(random_exact_pages(b), n_exact, n_exact, b.batch, n_sets, stream);
    for (int64_t set = 0; set < n_sets; ++set) exact_sets.push_back({exact->set(set), n_exact});
  }
  const int64_t width = int64_t(b.batch) * b.heads * b.head_dim;
  const cuda::Buffer q = to_device(random_halves(width, 1), stream), out(width * 2);
  const auto step_of = [&](int64_t set) {
    cuda::DecodeAttention step;
    step.cache = packed.set(set);
    step.batch = b.batch;
    step.longest = n_packed;
    step.first_page = int(b.window.sink / kPagePositions);
    step.fresh = 1;  // as behind a kernel that appends a token
    step.exact = exact ? &exact_sets[set] : nullptr;
    step.q = q.as();
    step.out = out.as();
    step.scale = 1 / std::sqrt(float(b.head_dim));
    return step;
  };
  int64_t scratch_bytes = 0;
  for (int64_t set = 0; set < b.layers; ++set)
    scratch_bytes = std::max(scratch_bytes, layers.caches[set]->scratch_bytes(step_of(set)));
  const cuda::Buffer scratch(scratch_bytes);
  CacheTime time;
  time.microseconds = graph_microseconds(b, n_sets, stream, [&](int64_t set) {
    layers.caches[set % b.layers]->attend(step_of(set), scratch.as(), stream);
  });
  const double bytes = mean_page_bytes(layers);
  const int64_t pages_read =
      (n_packed + kPagePositions - 1) / kPagePositions - b.window.sink / kPagePositions;
  time.bytes = bytes * double(pages_read * b.batch) + exact_bytes(b, n_exact);
  const double positions =
      double(pages_read * kPagePositions + (n_exact + kPartPositions - 1) / kPartPositions * kPartPositions);
  time.bytes_per_position = time.bytes / (positions * b.batch * b.kv_heads);
  return time;
}

PrefillTime time_prefill(const CacheBench& b, int64_t chunk) {
  const cuda::Stream stream;
  const Layers layers(b, b.context, stream);
  const int64_t n_sets = sets_of(b, layers, (b.context + kPagePositions - 1) / kPagePositions * b.batch);
  const Paged packed(random_pages(layers.specs[layers.largest]), b.context, b.context, b.batch, n_sets,
                     stream);
  const int64_t tokens = b.batch * chunk, width = tokens * b.heads * b.head_dim;
  const int64_t kv_width = tokens * b.kv_heads * b.head_dim;
  const cuda::Buffer q = to_device(random_halves(width, 1), stream), out(width * 2);
  const cuda::Buffer k = to_device(random_halves(kv_width, 2), stream),
                     v = to_device(random_halves(kv_width, 3), stream);
  const auto job_of = [&](int64_t set) {
    cuda::PrefillAttention job;
    layers.caches[set % b.layers]->describe(job);
    job.cache = packed.set(set);
    job.batch = b.batch;
    job.tokens = chunk;
    job.longest = b.context;
    job.q = q.as();
    job.k = k.as();
    job.v = v.as();
    job.out = out.as();
    job.scale = 1 / std::sqrt(float(b.head_dim));
    return job;
  };
  int64_t scratch_bytes = 0;
  for (int64_t set = 0; set < b.layers; ++set)
    scratch_bytes = std::max(scratch_bytes, cuda::prefill_scratch_bytes(job_of(set)));
  const cuda::Buffer scratch(scratch_bytes);
  PrefillTime time;
  time.microseconds = graph_microseconds(
      b, n_sets, stream, [&](int64_t set) { cuda::prefill_attention(job_of(set), scratch.as(), stream); });
  time.expand_microseconds = graph_microseconds(
      b, n_sets, stream, [&](int64_t set) { cuda::expand_for_prefill(job_of(set), scratch.as(), stream); });
  time.bytes_per_position = mean_page_bytes(layers) / kPagePositions / b.kv_heads;
  return time;
}

namespace {

/// Keys or values (T, H, D) of a layer, about their mean where they have one: none keeps it.
std::vector<uint16_t> encoder_rows(const PackedSpec& spec, int64_t tokens, bool keys) {
  const int heads = spec.n_kv_heads(), dim = spec.layout.head_dim;
  std::vector<uint16_t> rows = random_halves(tokens * heads * dim, 5);
  if (spec.key[0].mean.empty()) return rows;
  for (int64_t t = 0; t < tokens; ++t)
    for (int h = 0; h < heads; ++h) {
      const std::vector<double> mean =
          keys ? key_mean(spec, h, t) : value_mean(spec, h);  // zero with centres
      uint16_t* const row = &rows[size_t((t * heads + h) * dim)];
      for (int d = 0; d < dim; ++d) row[d] = to_half(float(from_half(row[d]) + mean[size_t(d)]));
    }
  return rows;
}

}  // namespace

CacheTime time_encode(const CacheBench& b, int64_t tokens, bool values) {
  const cuda::Stream stream;
  const Layers layers(b, tokens, stream);
  const int64_t page_bytes = layers.page_bytes(layers.largest);
  const int64_t n_pages = (tokens + kPagePositions - 1) / kPagePositions,
                width = int64_t(b.kv_heads) * b.head_dim;
  const int64_t in_bytes = tokens * width * 2,
                n_sets = std::max<int64_t>(b.layers, int64_t(kBeyondCaches) / in_bytes + 1);
  const std::vector<uint16_t> keys = encoder_rows(layers.specs[0], tokens, true),
                              of_values = encoder_rows(layers.specs[0], tokens, false);
  std::vector<cuda::Buffer> k, v, pages;
  for (int64_t s = 0; s < n_sets; ++s) {
    k.push_back(to_device(keys, stream));
    if (values) v.push_back(to_device(of_values, stream));
    pages.emplace_back(n_pages * page_bytes);
  }
  std::vector<int32_t> table(n_pages + 1);
  for (int64_t i = 0; i < n_pages; ++i) table[i] = int32_t(i);
  const cuda::Buffer block_table = to_device(table, stream),
                     starts = to_device(std::vector<int32_t>{0}, stream);
  CacheTime time;
  time.microseconds = graph_microseconds(b, n_sets, stream, [&](int64_t s) {
    cuda::EncodeTokens job;
    job.pages = pages[s].as<uint8_t>();
    job.cache = {job.pages, block_table.as<int32_t>(), n_pages + 1, nullptr};
    job.starts = starts.as<int32_t>();
    job.batch = 1;
    job.tokens = tokens;
    job.k = k[s].as();
    if (values) job.v = v[s].as();
    layers.caches[s % b.layers]->encode(job, stream);
  });
  double written = 0;  // per position and layer
  for (const PackedSpec& spec : layers.specs) {
    const PageShape shape = page_shape(spec);
    for (const BlockShape& block : shape.blocks)
      written += (double(block.key.bytes) / kPagePositions + 2 * block.key_norms +
                  (values ? double(block.value.bytes) / kPagePositions + 2 + (b.centres > 0) : 0)) /
                 b.layers;
  }
  time.bytes = double(tokens) * (double(width) * 2 * (values ? 2 : 1) + written);
  time.bytes_per_position = written / b.kv_heads;
  return time;
}

}  // namespace blockgtq
