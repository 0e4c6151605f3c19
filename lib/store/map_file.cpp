// MAP.h5, schema "blockgtq.map", beside what preamble.h lists:
//   attributes  method, min_bits, max_bits, seed (uint64)
//               quantizer identity: rotation, group_seed, codebook, norms, pack_order (text)
//   datasets    bits          (n_budgets, L, H, B) uint8, block order
//               average_bits  (n_budgets) float64, ascending
//               energy        (L, H, B) float64
//               coords        (B, 2) int32: the coordinates of the head that make up each block, so that a
//               reader
//                             need not know the RoPE layout
#include "store/map_file.h"

#include <array>
#include <cmath>

#include "base/error.h"
#include "quant/codebook.h"
#include "quant/methods.h"
#include "store/preamble.h"

namespace blockgtq {
namespace {

constexpr const char* kSchema = "blockgtq.map";
constexpr uint64_t kMaxBudgets = 1024;

/// What the codes of a group mean; a reader that does not know these cannot decode.
constexpr std::array<std::array<const char*, 2>, 5> kIdentity = {{
    {"rotation", "haar-qr-pcg64"},
    {"group_seed", "seed + bits"},
    {"codebook", "lloyd-max-normal-100"},
    {"norms", "fp16 per group"},
    {"pack_order", "groups ascending bits, lsb first"},
}};

std::vector<int32_t> block_coords(const BlockLayout& layout) {
  std::vector<int32_t> coords;  // (B, 2)
  for (int b = 0; b < layout.n_blocks(); ++b)
    for (int c : layout.coords(b)) coords.push_back(c);
  return coords;
}

}  // namespace

void write_map(const fs::path& path, const BitMap& map) {
  const Dims dims = {uint64_t(map.shape.n_layers), uint64_t(map.shape.n_kv_heads), uint64_t(map.n_blocks())};
  const size_t n = dims[0] * dims[1] * dims[2];
  check(map.energy.size() == n, "energies (L, H, B)");
  check(map.budgets.size() <= kMaxBudgets, "number of budgets");
  std::vector<uint8_t> bits;  // (n_budgets, L, H, B)
  std::vector<double> average_bits;
  for (const Budget& b : map.budgets) {
    check(b.bits.size() == n, "bits (L, H, B)");
    bits.insert(bits.end(), b.bits.begin(), b.bits.end());
    average_bits.push_back(b.average_bits);
  }
  const std::vector<int32_t> coords = block_coords(map.shape.layout);

  H5Output file(path, kSchema);
  write_preamble(file, map.shape, map.signature, map.provenance);
  file.put_text("method", map.method);
  file.put_int("min_bits", map.min_bits);
  file.put_int("max_bits", map.max_bits);
  file.put_u64("seed", map.seed);
  for (const auto& [key, value] : kIdentity) file.put_text(key, value);
  file.write("average_bits", {average_bits.size()}, average_bits.data());
  file.write("bits", {average_bits.size(), dims[0], dims[1], dims[2]}, bits.data());
  file.write("energy", dims, map.energy.data());
  file.write("coords", {dims[2], 2}, coords.data());
  file.finish();
}

BitMap read_map(const fs::path& path) {
  const H5Input file(path, kSchema);
  Preamble preamble = read_preamble(file);
  BitMap map;
  map.shape = std::move(preamble.shape);
  map.signature = std::move(preamble.signature);
  map.provenance = std::move(preamble.provenance);
  map.method = file.get_text("method");
  if (!find_method(key_methods(), map.method))
    fail_input("{}: method: {}, not known", file.path(), map.method.substr(0, 100));
  map.min_bits = int(file.get_int("min_bits", 1, kMaxBits));
  map.max_bits = int(file.get_int("max_bits", map.min_bits, kMaxBits));
  map.seed = file.get_u64("seed");
  for (const auto& [key, value] : kIdentity) file.expect_text(key, value);

  const Dims dims = {uint64_t(map.shape.n_layers), uint64_t(map.shape.n_kv_heads), uint64_t(map.n_blocks())};
  const size_t n = dims[0] * dims[1] * dims[2];
  map.energy = file.read<double>("energy", dims);
  check_finite(file, "energy", map.energy, 0);
  if (file.read<int32_t>("coords", {dims[2], 2}) != block_coords(map.shape.layout))
    fail_input("{}: coords: other than head_dim, rotary_dim and pairing say", file.path());
  if (!file.has("average_bits")) return map;

  const uint64_t n_budgets = file.dims("average_bits", 1)[0];
  if (n_budgets > kMaxBudgets)
    fail_input("{}: average_bits: {} budgets, allowed {}", file.path(), n_budgets, kMaxBudgets);
  const std::vector<double> average_bits = file.read<double>("average_bits", {n_budgets});
  const std::vector<uint8_t> bits = file.read<uint8_t>("bits", {n_budgets, dims[0], dims[1], dims[2]});
  for (uint64_t i = 0; i < n_budgets; ++i) {
    if (!(average_bits[i] >= map.min_bits && average_bits[i] <= map.max_bits) ||
        (i > 0 && average_bits[i] <= average_bits[i - 1]))
      fail_input("{}: average_bits: {}, allowed {} to {}, ascending", file.path(), average_bits[i],
                 map.min_bits, map.max_bits);
    for (size_t j = i * n; j < (i + 1) * n; ++j)
      if (bits[j] < map.min_bits || bits[j] > map.max_bits)
        fail_input("{}: bits: {} at {}, allowed {} to {}", file.path(), bits[j], j, map.min_bits,
                   map.max_bits);
    map.budgets.push_back({average_bits[i], {bits.begin() + i * n, bits.begin() + (i + 1) * n}});
  }
  return map;
}

}  // namespace blockgtq
