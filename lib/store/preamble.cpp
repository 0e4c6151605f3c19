#include "store/preamble.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 512;
constexpr uint64_t kMaxProvenance = 1024;  // rows

int get_even(const H5Input& file, const std::string& name, int64_t high) {
  const int value = int(file.get_int(name, 2, high));
  if (value % 2 != 0) fail_input("{}: {}: {}, allowed even numbers", file.path(), name, value);
  return value;
}

// One frequency per rotary block of the metric. Under --compat reference these may be fewer than the
// layout's.
uint64_t frequency_count(const H5Input& file, const BlockLayout& layout) {
  const uint64_t n = file.dims("inv_freq", 1)[0];
  if (n < 1 || n > uint64_t(layout.n_rotary()))
    fail_input("{}: inv_freq: {} frequencies, allowed 1 to {}", file.path(), n, layout.n_rotary());
  return n;
}

std::vector<double> get_frequencies(const H5Input& file, const std::string& name, uint64_t n) {
  std::vector<double> values = file.read<double>(name, {n});
  check_finite(file, name, values, std::numeric_limits<double>::denorm_min());
  return values;
}

std::vector<int> get_ints(const H5Input& file, const std::string& name, uint64_t n, int high) {
  const std::vector<int32_t> values = file.read<int32_t>(name, {n});
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] < 0 || values[i] > high)
      fail_input("{}: {}: {} at {}, allowed 0 to {}", file.path(), name, values[i], i, high);
  return {values.begin(), values.end()};
}

void write_special(H5Output& file, const AttentionShape& shape) {
  if (!shape.special()) return;
  const size_t n_layers = size_t(shape.n_layers), n = shape.ropes[0].inv_freq.size(),
               more = shape.ropes.size() - 1;
  if (more > 0) {
    check(shape.rope_of_layer.size() == n_layers, "one rope per layer");
    std::vector<double> used, raw, factors;  // (more, n), (more, n), (more)
    for (size_t i = 1; i <= more; ++i) {
      const Rope& rope = shape.ropes[i];
      check(rope.inv_freq.size() == n && rope.inv_freq_raw.size() == n, "as many frequencies on every layer");
      used.insert(used.end(), rope.inv_freq.begin(), rope.inv_freq.end());
      raw.insert(raw.end(), rope.inv_freq_raw.begin(), rope.inv_freq_raw.end());
      factors.push_back(rope.attention_factor);
    }
    const std::vector<int32_t> of_layer(shape.rope_of_layer.begin(), shape.rope_of_layer.end());
    file.write("rope_of_layer", {n_layers}, of_layer.data());
    file.write("more_inv_freq", {more, n}, used.data());
    file.write("more_inv_freq_raw", {more, n}, raw.data());
    file.write("more_attention_factor", {more}, factors.data());
  }
  if (!shape.windows.empty()) {
    check(shape.windows.size() == n_layers, "one window per layer");
    const std::vector<int32_t> windows(shape.windows.begin(), shape.windows.end());
    file.write("windows", {n_layers}, windows.data());
  }
  if (shape.scale != 0) file.write("logit_scale", {1}, &shape.scale);
  if (shape.softcap != 0) file.write("logit_softcap", {1}, &shape.softcap);
  file.put_int("sinks", shape.sinks);
}

void read_special(const H5Input& file, AttentionShape& shape) {
  if (file.get_int("schema_version", 1, kSpecialVersion) < kSpecialVersion) return;
  const uint64_t n_layers = uint64_t(shape.n_layers), n = shape.ropes[0].inv_freq.size();
  if (file.has("rope_of_layer")) {
    const uint64_t more = file.dims("more_attention_factor", 1)[0];
    if (more < 1 || more > n_layers)
      fail_input("{}: more_attention_factor: {} values, allowed 1 to {}", file.path(), more, n_layers);
    const std::vector<double> factors = get_frequencies(file, "more_attention_factor", more);
    const std::vector<double> used = file.read<double>("more_inv_freq", {more, n}),
                              raw = file.read<double>("more_inv_freq_raw", {more, n});
    check_finite(file, "more_inv_freq", used, 0);
    check_finite(file, "more_inv_freq_raw", raw, 0);
    for (uint64_t i = 0; i < more; ++i) {
      const auto row = [&](const std::vector<double>& all) {
        return std::vector<double>(all.begin() + long(i * n), all.begin() + long((i + 1) * n));
      };
      shape.ropes.push_back({row(used), row(raw), factors[i]});
    }
    shape.rope_of_layer = get_ints(file, "rope_of_layer", n_layers, int(more));
  }
  if (file.has("windows"))
    shape.windows = get_ints(file, "windows", n_layers, std::numeric_limits<int32_t>::max());
  if (file.has("logit_scale")) shape.scale = get_frequencies(file, "logit_scale", 1)[0];
  if (file.has("logit_softcap")) shape.softcap = get_frequencies(file, "logit_softcap", 1)[0];
  shape.sinks = file.get_int("sinks", 0, 1) == 1;
}

}  // namespace

int64_t version_for(const AttentionShape& shape, int64_t plain) {
  return shape.special() ? kSpecialVersion : plain;
}

void write_preamble(H5Output& file, const AttentionShape& shape, const std::string& signature,
                    const Provenance& provenance) {
  const Rope& rope = shape.ropes.at(0);
  const size_t n_frequencies = rope.inv_freq.size();
  check(shape.modules.size() == size_t(shape.n_layers), "one module name per layer");
  check(n_frequencies >= 1 && n_frequencies <= size_t(shape.layout.n_rotary()) &&
            rope.inv_freq_raw.size() == n_frequencies,
        "one frequency per rotary block");
  file.put_int("n_layers", shape.n_layers);
  file.put_int("n_heads", shape.n_heads);
  file.put_int("n_kv_heads", shape.n_kv_heads);
  file.put_int("v_dim", shape.v_dim);
  file.put_int("head_dim", shape.layout.head_dim);
  file.put_int("rotary_dim", shape.layout.rotary_dim);
  file.put_text("pairing", name(shape.layout.pairing));
  file.put_text("signature", signature);
  file.write("inv_freq", {n_frequencies}, rope.inv_freq.data());
  file.write("inv_freq_raw", {n_frequencies}, rope.inv_freq_raw.data());
  if (rope.attention_factor != 1) file.write("attention_factor", {1}, &rope.attention_factor);
  write_special(file, shape);
  file.write_strings("modules", {shape.modules.size()}, shape.modules);
  std::vector<std::string> rows;  // (n, 2)
  for (const auto& [key, value] : provenance) {
    rows.push_back(key);
    rows.push_back(value);
  }
  check(provenance.size() <= kMaxProvenance, "rows of provenance");
  file.write_strings("provenance", {provenance.size(), 2}, rows);
}

Preamble read_preamble(const H5Input& file) {
  Preamble p;
  AttentionShape& shape = p.shape;
  shape.n_layers = int(file.get_int("n_layers", 1, kMaxLayers));
  shape.n_heads = int(file.get_int("n_heads", 1, kMaxHeads));
  shape.n_kv_heads = int(file.get_int("n_kv_heads", 1, shape.n_heads));
  if (shape.n_heads % shape.n_kv_heads != 0)
    fail_input("{}: n_kv_heads: {}, allowed divisors of n_heads {}", file.path(), shape.n_kv_heads,
               shape.n_heads);
  shape.v_dim = int(file.get_int("v_dim", 0, kMaxHeadDim));
  shape.layout.head_dim = get_even(file, "head_dim", kMaxHeadDim);
  shape.layout.rotary_dim = get_even(file, "rotary_dim", shape.layout.head_dim);
  const std::string pairing = file.get_text("pairing");
  if (pairing != "half" && pairing != "interleaved")
    fail_input("{}: pairing: {}, allowed half, interleaved", file.path(), pairing.substr(0, 100));
  shape.layout.pairing = pairing == "half" ? Pairing::half : Pairing::interleaved;
  p.signature = file.get_text("signature");
  const uint64_t n_frequencies = frequency_count(file, shape.layout);
  Rope& rope = shape.ropes[0];
  rope.inv_freq = get_frequencies(file, "inv_freq", n_frequencies);
  rope.inv_freq_raw = get_frequencies(file, "inv_freq_raw", n_frequencies);
  if (file.has("attention_factor")) rope.attention_factor = get_frequencies(file, "attention_factor", 1)[0];
  read_special(file, shape);
  shape.modules = file.read_strings("modules", {uint64_t(shape.n_layers)});
  if (file.has("provenance")) {
    const Dims dims = file.dims("provenance", 2);
    if (dims[0] > kMaxProvenance || dims[1] != 2)
      fail_input("{}: provenance: {} x {}, allowed up to {} x 2", file.path(), dims[0], dims[1],
                 kMaxProvenance);
    const std::vector<std::string> rows = file.read_strings("provenance", dims);
    for (size_t i = 0; i < rows.size(); i += 2) p.provenance.emplace_back(rows[i], rows[i + 1]);
  }
  return p;
}

std::string layer_name(int layer) {
  return fmt::format("layer{:02}", layer);
}

void check_finite(const H5Input& file, const std::string& name, const std::vector<double>& values,
                  double least) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]) || values[i] < least)
      fail_input("{}: {}: {} at {}, allowed finite numbers{}", file.path(), name, values[i], i,
                 least > 0    ? " above 0"
                 : least == 0 ? " from 0"
                              : "");
}

}  // namespace blockgtq
