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

// One frequency per rotary block of the metric; under --compat reference that may be fewer than the layout's.
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

}  // namespace

void write_preamble(H5Output& file, const AttentionShape& shape, const std::string& signature,
                    const Provenance& provenance) {
  const size_t n_frequencies = shape.inv_freq.size();
  check(shape.modules.size() == size_t(shape.n_layers), "one module name per layer");
  check(n_frequencies >= 1 && n_frequencies <= size_t(shape.layout.n_rotary()) &&
            shape.inv_freq_raw.size() == n_frequencies,
        "one frequency per rotary block");
  file.put_int("n_layers", shape.n_layers);
  file.put_int("n_heads", shape.n_heads);
  file.put_int("n_kv_heads", shape.n_kv_heads);
  file.put_int("v_dim", shape.v_dim);
  file.put_int("head_dim", shape.layout.head_dim);
  file.put_int("rotary_dim", shape.layout.rotary_dim);
  file.put_text("pairing", name(shape.layout.pairing));
  file.put_text("signature", signature);
  file.write("inv_freq", {n_frequencies}, shape.inv_freq.data());
  file.write("inv_freq_raw", {n_frequencies}, shape.inv_freq_raw.data());
  if (shape.attention_factor != 1) file.write("attention_factor", {1}, &shape.attention_factor);
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
  shape.inv_freq = get_frequencies(file, "inv_freq", n_frequencies);
  shape.inv_freq_raw = get_frequencies(file, "inv_freq_raw", n_frequencies);
  if (file.has("attention_factor")) shape.attention_factor = get_frequencies(file, "attention_factor", 1)[0];
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
