#include "capi/served.h"

#include <unistd.h>

#include <cstring>
#include <map>

#include "quant/stats.h"
#include "store/map_file.h"

namespace blockgtq::test {
namespace {

/// Statistics of tokens as a model might have them.
Stats sample_statistics(int dim) {
  constexpr int kTokens = 256;
  Stats stats;
  AttentionShape& shape = stats.shape;
  shape.n_layers = kLayers;
  shape.n_heads = kHeads;
  shape.n_kv_heads = kKvHeads;
  shape.v_dim = dim;
  shape.layout = {dim, dim, Pairing::half};
  for (int i = 0; i < dim / 2; ++i) shape.ropes[0].inv_freq.push_back(std::pow(1e4, -2.0 * i / dim));
  shape.ropes[0].inv_freq_raw = shape.ropes[0].inv_freq;
  for (int l = 0; l < kLayers; ++l)
    shape.modules.push_back("model.layers." + std::to_string(l) + ".self_attn");
  stats.run_chunks = 1;
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  for (int l = 0; l < kLayers; ++l) {
    const auto tokens = [&](int heads, float mean) {
      std::vector<float> x(size_t(kTokens) * size_t(heads * dim));
      for (size_t i = 0; i < x.size(); ++i) {
        const int d = int(i % size_t(dim));
        x[i] = normal(random) * std::exp2(-float(d % (dim / 2)) / float(dim / 8)) + mean * float(d % 3);
      }
      return x;
    };
    const auto q = tokens(kHeads, 0), k = tokens(kKvHeads, 0.5f), v = tokens(kKvHeads, 0.1f);
    accumulate(stats, l, 0, kTokens, q.data(), k.data(), v.data());
    stats.layers[size_t(l)].output.resize(size_t(kKvHeads * dim * dim));
    for (int h = 0; h < kKvHeads; ++h)
      for (int i = 0; i < dim; ++i) stats.layers[size_t(l)].output[size_t((h * dim + i) * dim + i)] = 1;
  }
  return stats;
}

}  // namespace

SampleMap::SampleMap(int dim) : map_(make_bit_map(sample_statistics(dim), {2, 3, 4})) {
  std::string pattern = (std::filesystem::temp_directory_path() / "blockgtq-capi-XXXXXX").string();
  REQUIRE(mkdtemp(pattern.data()));
  folder_ = pattern;
  write_map(path(), map_);
}

SampleMap::~SampleMap() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

const SampleMap& sample_map(int dim) {
  static std::map<int, SampleMap> maps;
  return maps.try_emplace(dim, dim).first->second;
}

std::string text(const Kind& kind) {
  if (!kind.packed) return "fp16, D = " + std::to_string(kind.dim);
  const auto name = [](const char* given) { return std::string(given ? given : "-"); };
  return std::string(kind.pair) + " " + name(kind.key_method) + " / " + name(kind.value_method) + ", " +
         name(kind.code) + ", D = " + std::to_string(kind.dim) + ", heads from " +
         std::to_string(kind.first_kv_head) + ", pitch " + std::to_string(kind.page_pitch);
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {false, 64, nullptr},
      {false, 128, nullptr},
      {true, 64, "K3V3"},
      {true, 128, "K2V3"},
      {true, 128, "K3V3", "tq-mse", "tq-mse"},
      {true, 64, "K4V2", "tq-mse-cb", "tq-mse-centred"},
      {true, 64, "K2V2", nullptr, nullptr, "trellis"},
      {true, 128, "K3V4", nullptr, nullptr, "trellis"},
      {true, 64, "K3V3", nullptr, nullptr, "trellis", 16384},
      {true, 64, "K3V3", "block-gtq-cb", "tq-mse", nullptr, 32768, 1, 1},
  };
  return all;
}

blockgtq_options options(const Kind& kind, const char* device, int64_t longest) {
  blockgtq_options o{};
  o.struct_size = sizeof o;
  static std::map<int, std::string> paths;  // the options hold no copy
  if (kind.packed) o.map = paths.try_emplace(kind.dim, sample_map(kind.dim).path()).first->second.c_str();
  o.pair = kind.packed ? kind.pair : nullptr;
  o.key_method = kind.key_method;
  o.value_method = kind.value_method;
  o.code = kind.code;
  o.device = device;
  o.longest = longest;
  o.n_layers = kLayers;
  o.n_heads = kHeads;
  o.n_kv_heads = kKvHeads;
  o.head_dim = kind.dim;
  o.first_kv_head = kind.first_kv_head;
  o.kv_heads = kind.kv_heads;
  o.page_pitch = kind.page_pitch;
  return o;
}

std::vector<uint8_t> encoded(const std::vector<float>& x, blockgtq_dtype type) {
  std::vector<uint8_t> out(x.size() * bytes_of(type));
  for (size_t i = 0; i < x.size(); ++i) {
    const uint16_t bits = type == BLOCKGTQ_BF16 ? to_bf16(x[i]) : to_half(x[i]);
    if (type == BLOCKGTQ_F32)
      std::memcpy(&out[4 * i], &x[i], 4);
    else
      std::memcpy(&out[2 * i], &bits, 2);
  }
  return out;
}

std::vector<float> decoded(const std::vector<uint8_t>& bytes, blockgtq_dtype type) {
  std::vector<float> out(bytes.size() / bytes_of(type));
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t bits = 0;
    if (type == BLOCKGTQ_F32) {
      std::memcpy(&out[i], &bytes[4 * i], 4);
      continue;
    }
    std::memcpy(&bits, &bytes[2 * i], 2);
    out[i] = type == BLOCKGTQ_BF16 ? from_bf16(bits) : from_half(bits);
  }
  return out;
}

std::vector<float> rounded(std::vector<float> x, blockgtq_dtype type) {
  return decoded(encoded(x, type), type);
}

Served::Served(const Kind& kind, const std::string& device, int batch, int64_t capacity)
    : place(device), batch(batch), capacity(capacity), columns((capacity + kPage - 1) / kPage) {
  const blockgtq_options o = options(kind, place.device().c_str(), capacity);
  const blockgtq_status status = blockgtq_open(&o, &cache);
  INFO(blockgtq_last_error());
  REQUIRE(status == BLOCKGTQ_OK);
  description.struct_size = sizeof description;
  REQUIRE(blockgtq_describe(cache, &description) == BLOCKGTQ_OK);
  of_layer.struct_size = sizeof of_layer;
  REQUIRE(blockgtq_describe_layer(cache, layer, &of_layer) == BLOCKGTQ_OK);
  n_pages = batch * columns + 3;
  table.resize(size_t(n_pages));
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), random);
  table.resize(size_t(batch * columns));
  table_memory = place.memory(table);
  page_memory = place.memory(size_t(n_pages * of_layer.page_pitch));
}

Array Served::array(const std::vector<float>& x, blockgtq_dtype type) const {
  Array out{place.memory(encoded(x, type))};
  out.tensor.data = out.memory->data();
  out.tensor.dtype = type;
  return out;
}

Array Served::array(int64_t n, blockgtq_dtype type) const {
  Array out{place.memory(size_t(n) * bytes_of(type))};
  out.tensor.data = out.memory->data();
  out.tensor.dtype = type;
  return out;
}

std::vector<float> Served::get(const Array& array, int64_t n) const {
  const auto type = blockgtq_dtype(array.tensor.dtype);
  return decoded(place.get<uint8_t>(*array.memory, size_t(n) * bytes_of(type)), type);
}

std::vector<float> Served::normal(int64_t n) {
  std::normal_distribution<float> distribution;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& y : x) y = distribution(random);
  return x;
}

blockgtq_pages Served::pages(const Memory* lengths, const Memory* starts, int64_t longest) const {
  blockgtq_pages p{};
  p.data = page_memory->data();
  p.n_pages = n_pages;
  p.block_table = table_memory->as<int32_t>();
  p.stride = columns;
  p.lengths = lengths ? lengths->as<int32_t>() : nullptr;
  p.starts = starts ? starts->as<int32_t>() : nullptr;
  p.longest = longest;
  return p;
}

blockgtq_encode_args Served::encode_args(const Array& k, const Array& v, int64_t tokens,
                                         const Memory& starts) const {
  blockgtq_encode_args args{};
  args.struct_size = sizeof args;
  args.layer = layer;
  args.batch = batch;
  args.tokens = tokens;
  args.pages = pages(nullptr, &starts, capacity);
  args.k = k.tensor;
  args.v = v.tensor;
  args.stream = place.stream();
  return args;
}

void Served::encode(const std::vector<float>& k, const std::vector<float>& v, int64_t tokens,
                    const std::vector<int32_t>& held, blockgtq_dtype type) {
  const Array keys = array(k, type), values = array(v, type);
  const auto starts = place.memory(held);
  blockgtq_encode_args args = encode_args(keys, values, tokens, *starts);
  const auto scratch = give_scratch(args, blockgtq_encode_scratch);
  const blockgtq_status status = blockgtq_encode(cache, &args);
  INFO(blockgtq_last_error());
  REQUIRE(status == BLOCKGTQ_OK);
  place.get<int32_t>(*starts, held.size());  // waits for the stream
}

std::vector<float> Served::decode(const std::vector<float>& q, const std::vector<int32_t>& lengths,
                                  blockgtq_dtype type, const blockgtq_rule& rule, uint32_t flags) {
  const Array queries = array(q, type), out = array(batch * q_width(), type);
  const auto held = place.memory(lengths);
  blockgtq_decode_args args{};
  args.struct_size = sizeof args;
  args.flags = flags;
  args.layer = layer;
  args.batch = batch;
  args.pages = pages(held.get(), nullptr, *std::max_element(lengths.begin(), lengths.end()));
  args.q = queries.tensor;
  args.out = out.tensor;
  args.rule = rule;
  args.stream = place.stream();
  const auto scratch = give_scratch(args, blockgtq_decode_scratch);
  const blockgtq_status status = blockgtq_decode(cache, &args);
  INFO(blockgtq_last_error());
  REQUIRE(status == BLOCKGTQ_OK);
  return get(out, batch * q_width());
}

std::vector<float> Served::prefill(const std::vector<float>& q, const std::vector<float>& k,
                                   const std::vector<float>& v, int64_t tokens,
                                   const std::vector<int32_t>& lengths, blockgtq_dtype type,
                                   const blockgtq_rule& rule) {
  const Array queries = array(q, type), keys = array(k, type), values = array(v, type),
              out = array(batch * tokens * q_width(), type);
  const auto held = place.memory(lengths);
  blockgtq_prefill_args args{};
  args.struct_size = sizeof args;
  args.layer = layer;
  args.batch = batch;
  args.tokens = tokens;
  args.pages = pages(held.get(), nullptr, *std::max_element(lengths.begin(), lengths.end()));
  args.q = queries.tensor;
  args.k = keys.tensor;
  args.v = values.tensor;
  args.out = out.tensor;
  args.rule = rule;
  args.stream = place.stream();
  const auto scratch = give_scratch(args, blockgtq_prefill_scratch);
  const blockgtq_status status = blockgtq_prefill(cache, &args);
  INFO(blockgtq_last_error());
  REQUIRE(status == BLOCKGTQ_OK);
  return get(out, batch * tokens * q_width());
}

Served::Held Served::read(int64_t first, int64_t n) const {
  const Array k = array(batch * n * width(), BLOCKGTQ_F32), v = array(batch * n * width(), BLOCKGTQ_F32);
  blockgtq_read_args args{};
  args.struct_size = sizeof args;
  args.layer = layer;
  args.batch = batch;
  args.first = first;
  args.tokens = n;
  args.pages = pages(nullptr, nullptr, 0);
  args.k = k.tensor;
  args.v = v.tensor;
  args.stream = place.stream();
  const blockgtq_status status = blockgtq_read(cache, &args);
  INFO(blockgtq_last_error());
  REQUIRE(status == BLOCKGTQ_OK);
  return {get(k, batch * n * width()), get(v, batch * n * width())};
}

std::vector<uint8_t> Served::page(int b, int64_t index) const {
  const auto pitch = size_t(of_layer.page_pitch);
  const auto all = place.get<uint8_t>(*page_memory, size_t(n_pages) * pitch);
  const auto at = all.begin() + std::ptrdiff_t(table[size_t(b * columns + index)] * int64_t(pitch));
  return {at, at + std::ptrdiff_t(of_layer.page_bytes)};
}

std::vector<double> attend(const Reference& how, int64_t tokens, const float* q, const std::vector<float>& k,
                           const std::vector<float>& v) {
  const int64_t width = int64_t(how.kv_heads) * how.dim, n = int64_t(k.size()) / width;
  std::vector<double> out(size_t(tokens * how.heads * how.dim), 0.0);
  for (int64_t i = 0; i < tokens; ++i)
    for (int head = 0; head < how.heads; ++head) {
      const int64_t end = n - tokens + i + 1,
                    begin = how.window > 0 ? std::max<int64_t>(0, end - how.window) : 0;
      const int64_t row = (i * how.heads + head) * how.dim,
                    at = int64_t(head) / (how.heads / how.kv_heads) * how.dim;
      if (end <= begin) continue;
      std::vector<double> s;
      for (int64_t t = begin; t < end; ++t) {
        double x = 0;
        for (int d = 0; d < how.dim; ++d) x += double(q[row + d]) * k[size_t(t * width + at + d)];
        x *= how.scale;
        s.push_back(how.softcap > 0 ? how.softcap * std::tanh(x / how.softcap) : x);
      }
      double most = *std::max_element(s.begin(), s.end()), sum = 0;
      if (how.sinks) most = std::max(most, double(how.sinks[head]));
      for (int64_t t = begin; t < end; ++t) {
        const double p = std::exp(s[size_t(t - begin)] - most);
        sum += p;
        for (int d = 0; d < how.dim; ++d) out[size_t(row + d)] += p * v[size_t(t * width + at + d)];
      }
      if (how.sinks) sum += std::exp(how.sinks[head] - most);
      for (int d = 0; d < how.dim; ++d) out[size_t(row + d)] /= sum;
    }
  return out;
}

double distance(const std::vector<float>& got, const std::vector<double>& want) {
  if (got.size() != want.size()) return NAN;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace blockgtq::test
