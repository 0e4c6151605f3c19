#include "capi/opened.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/decimal.h"
#include "base/error.h"
#include "cache/exact_page.h"
#include "cache/trellis_cache.h"
#include "capi/status.h"
#include "serve/cache_spec.h"
#include "serve/packed_specs.h"
#include "store/map_file.h"

namespace blockgtq::capi {
namespace {

std::string text(const char* given) {
  return given ? given : "";
}

int device_of(const char* given, int current) {
  const std::string name = text(given);
  if (name.empty() || name == "cpu") return kCpu;
  if (name == "cuda") return current;
  const auto index = name.starts_with("cuda:") ? parse_whole(name.substr(5)) : std::nullopt;
  require(index && *index >= 0 && *index < 1024, "device: '{}' is none of cpu, cuda, cuda:N", name);
  return int(*index);
}

const Method& method_of(const std::vector<Method>& known, const std::string& name, const char* field) {
  const Method* const method = find_method(known, name);
  require(method, "{}: '{}' is unknown: {}", field, name, method_list(known));
  return *method;
}

/// How the options say that pages hold keys and values, as `generate --kv` reads it.
CacheSpec spec_of(const blockgtq_options& o, const BitMap& map) {
  const std::string code = o.code ? o.code : "scalar";
  require(code == "scalar" || code == "trellis", "code: '{}' is none of scalar, trellis", code);
  CacheSpec spec;
  spec.k_method = text(o.key_method);
  spec.v_method = text(o.value_method);
  name_page_methods(spec.k_method, spec.v_method, code == "trellis");
  method_of(key_method_names(), spec.k_method, "key_method");
  method_of(value_method_names(), spec.v_method, "value_method");
  const double first = map.budgets.at(0).average_bits;
  spec.bits = o.pair ? parse_pair(o.pair, "pair") : BitPair{first, first};
  require(spec.bits.k && spec.bits.v, "pair: '{}': pages hold keys and values quantized, both of them",
          pair_text(spec.bits));
  require_bits(spec);
  spec.code = code_of(spec.bits, parse_code(code));
  require(has_codes(spec), "code: {} has no trellis codes", blockgtq::describe(spec));
  Progress silent;
  return resolve_chosen({spec}, &map, silent).at(0);
}

void require_same(const char* what, int expected, int found) {
  if (expected && expected != found)
    throw Error(Exit::input, fmt::format("the map is of another model: {}: {} in the map, {} expected", what,
                                         found, expected));
}

/// Keeps KV heads [first, first + n), and the query heads that read them.
void slice(Opened& opened, int first, int n) {
  AttentionShape& shape = opened.shape;
  const int all = shape.n_kv_heads, some = n ? n : all;
  require(first >= 0 && some > 0 && first <= all - some && (n || !first),
          "first_kv_head, kv_heads: {}, {}, of {} heads", first, n, all);
  for (PackedSpec& spec : opened.specs) {
    for (std::vector<LinearCode>* side : {&spec.key, &spec.value}) {
      side->erase(side->begin(), side->begin() + first);
      side->resize(size_t(some));
    }
    spec.n_heads = shape.group() * some;
  }
  shape.n_heads = shape.group() * some;
  shape.n_kv_heads = some;
}

void read(const blockgtq_options& o, Opened& opened) {
  const BitMap map = read_map(o.map);
  require_same("n_layers", o.n_layers, map.shape.n_layers);
  require_same("n_heads", o.n_heads, map.shape.n_heads);
  require_same("n_kv_heads", o.n_kv_heads, map.shape.n_kv_heads);
  require_same("head_dim", o.head_dim, map.shape.layout.head_dim);
  if (map.shape.v_dim != map.shape.layout.head_dim)
    fail_input("{}: values of {} coordinates beside keys of {} have no pages", o.map, map.shape.v_dim,
               map.shape.layout.head_dim);
  if (map.budgets.empty()) fail_input("{}: no budget", o.map);
  const CacheSpec spec = spec_of(o, map);
  const std::string codebook = text(o.codebook);
  require(codebook.empty() || codebook == "reference" || codebook == "exact",
          "codebook: '{}' is none of reference, exact", codebook);
  opened.shape = map.shape;
  opened.specs = packed_specs(make_cache(spec, map.shape, &map, parse_codebook(codebook)), map.shape,
                              blockgtq::describe(spec));
  opened.key_method = spec.k_method;
  opened.value_method = spec.v_method;
  opened.pair = pair_text(spec.bits);
  opened.code = code_text(spec);
  opened.key_bits = spec.bits.k;
  opened.value_bits = spec.bits.v;
}

void take_shape(const blockgtq_options& o, Opened& opened) {
  const auto names = {o.pair, o.key_method, o.value_method, o.code, o.codebook};
  require(std::none_of(names.begin(), names.end(), [](const char* name) { return name; }),
          "without a map pages hold fp16: pair, methods, code and codebook must be null");
  require(o.n_layers > 0 && o.n_layers <= 1024, "n_layers: {}, allowed: 1 to 1024", o.n_layers);
  require(o.n_kv_heads > 0 && o.n_kv_heads <= 1024, "n_kv_heads: {}, allowed: 1 to 1024", o.n_kv_heads);
  require(o.n_heads > 0 && o.n_heads <= 1024 && o.n_heads % o.n_kv_heads == 0,
          "n_heads: {}, allowed: a multiple of {} KV heads, at most 1024", o.n_heads, o.n_kv_heads);
  require(o.head_dim > 0 && o.head_dim <= 512 && o.head_dim % 16 == 0,
          "head_dim: {}, allowed: a multiple of 16, at most 512", o.head_dim);
  opened.shape.n_layers = o.n_layers;
  opened.shape.n_heads = o.n_heads;
  opened.shape.n_kv_heads = o.n_kv_heads;
  opened.shape.v_dim = o.head_dim;
  opened.shape.layout = {o.head_dim, 0, Pairing::half};
}

int64_t page_bytes(const Opened& opened, int layer) {
  return opened.packed() ? make_layer_cache(opened.specs[size_t(layer)])->page_bytes()
                         : opened.exact_page_bytes();
}

void describe_layers(Opened& opened, int64_t pitch) {
  const AttentionShape& shape = opened.shape;
  constexpr int64_t most = int64_t(1) << 32;
  require(pitch >= 0 && pitch <= most && pitch % 16 == 0, "page_pitch: {}, allowed: multiples of 16 to {}",
          pitch, most);
  for (int l = 0; l < shape.n_layers; ++l) {
    blockgtq_layer layer{};
    layer.window = shape.window(l);
    layer.page_bytes = page_bytes(opened, l);
    layer.page_pitch = pitch ? pitch : layer.page_bytes;
    require(layer.page_pitch >= layer.page_bytes, "page_pitch: {}, pages of layer {} have {} bytes", pitch, l,
            layer.page_bytes);
    require(opened.packed() || layer.page_pitch == layer.page_bytes,
            "page_pitch: {}, fp16 pages have {} bytes", pitch, layer.page_bytes);
    layer.scale = shape.scale > 0 ? shape.scale : 1 / std::sqrt(double(opened.dim()));
    layer.softcap = shape.softcap;
    layer.sinks = shape.sinks;
    opened.layers.push_back(layer);
    if (opened.packed()) opened.specs[size_t(l)].page_pitch = layer.page_pitch;
  }
}

void copy_text(const std::string& from, char (&to)[32]) {
  std::strncpy(to, from.c_str(), sizeof to - 1);
}

}  // namespace

bool Opened::trellis() const {
  return packed() && has_trellis(specs[0]);
}

int64_t Opened::exact_page_bytes() const {
  return blockgtq::exact_page_bytes(shape.n_kv_heads, dim());
}

Opened open(const blockgtq_options& o, int current) {
  require((o.flags & ~BLOCKGTQ_TRUST_POINTERS) == 0, "flags: {:#x}, known: {:#x}", o.flags,
          BLOCKGTQ_TRUST_POINTERS);
  require(o.longest > 0 && o.longest <= INT32_MAX - kPagePositions, "longest: {}, allowed: 1 to {}",
          o.longest, INT32_MAX - kPagePositions);
  Opened opened;
  opened.device = device_of(o.device, current);
  opened.longest = o.longest;
  opened.trust_pointers = o.flags & BLOCKGTQ_TRUST_POINTERS;
  if (o.map)
    read(o, opened);
  else
    take_shape(o, opened);
  if (opened.on_gpu()) {
    const int dims[] = {64, 80, 96, 128, 256};
    require(std::find(std::begin(dims), std::end(dims), opened.dim()) != std::end(dims),
            "head dimension {}: kernels exist for 64, 80, 96, 128 and 256", opened.dim());
  }
  slice(opened, o.first_kv_head, o.kv_heads);
  describe_layers(opened, o.page_pitch);
  return opened;
}

blockgtq_description describe(const Opened& opened) {
  blockgtq_description d{};
  d.packed = opened.packed();
  d.device = opened.device;
  d.n_layers = opened.shape.n_layers;
  d.n_heads = opened.shape.n_heads;
  d.n_kv_heads = opened.shape.n_kv_heads;
  d.head_dim = opened.dim();
  d.block_size = int(kPagePositions);
  d.keys_rotated = 1;
  d.rotary_dim = opened.packed() ? opened.shape.metric_layout().rotary_dim : 0;
  d.interleaved = opened.packed() && opened.shape.layout.pairing == Pairing::interleaved;
  d.alignment = 16;
  d.key_bits = opened.key_bits;
  d.value_bits = opened.value_bits;
  for (const blockgtq_layer& layer : opened.layers) {
    d.bytes_per_token += double(layer.page_bytes) / kPagePositions;
    d.largest_page_bytes = std::max(d.largest_page_bytes, layer.page_bytes);
  }
  d.exact_page_bytes = opened.exact_page_bytes();
  copy_text(opened.key_method, d.key_method);
  copy_text(opened.value_method, d.value_method);
  copy_text(opened.pair, d.pair);
  copy_text(opened.code, d.code);
  return d;
}

}  // namespace blockgtq::capi
