// MAP.h5, schema "blockgtq.map", version 2 (1 ends with coords). Besides what preamble.h lists it has:
//   attributes  method, min_bits, max_bits, seed (uint64)
//               quantizer identity: rotation, group_seed, codebook, norms, pack_order (text)
//   datasets    bits          (n_budgets, L, H, B) uint8, block order
//               average_bits  (n_budgets) float64, ascending
//               energy        (L, H, B) float64
//               coords        (B, 2) int32: the coordinates of the head that make up each block, so that a
//                             reader need not know the RoPE layout
//   means over the calibration tokens, as in HeadCalibration:
//               q_energy, k_energy (L, H, B) float64
//               k_mean (L, H, D), v_mean (L, H, Dv) float64
//               product_bits  (n_budgets, L, H, B) uint8, by the product score
//               k_spectrum    (L, H, D) float64
//               k_forward, k_backward (L, H, D, D) float32
//               key_bits      (n_budgets, L, H, D / 2) uint8, 0..8, of pairs of rows of k_forward
//   only where the weights were known:
//               v_spectrum    (L, H, Dv) float64
//               v_forward, v_backward (L, H, Dv, Dv) float32
//               value_bits    (n_budgets, L, H, Dv / 2) uint8, 0..8, of pairs of rows of v_forward
//   only where there was a sample:
//               k_centres (L, H, M, D), v_centres (L, H, M, Dv) float32: M centres of k - k_mean and of
//               v - v_mean, M a power of two
//   only after calibrate --choose:
//               choice (1) text: the JSON list of choices_json() (quant/method_choice.h), with method and
//               code for each side and budget, and bytes and KL of all candidates
#include "store/map_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "quant/codebook.h"
#include "quant/methods.h"
#include "store/preamble.h"

namespace blockgtq {
namespace {

constexpr const char* kSchema = "blockgtq.map";
constexpr int64_t kVersion = 2;
constexpr uint64_t kMaxBudgets = 1024;
constexpr double kAnything = -std::numeric_limits<double>::infinity();

/// What the codes of a group mean. A reader that does not know these cannot decode.
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

/// Sizes that the arrays of one file share.
struct Sizes {
  uint64_t layers, heads, blocks, head_dim, v_dim;
  explicit Sizes(const AttentionShape& s)
      : layers(uint64_t(s.n_layers)),
        heads(uint64_t(s.n_kv_heads)),
        blocks(uint64_t(s.layout.n_blocks())),
        head_dim(uint64_t(s.layout.head_dim)),
        v_dim(uint64_t(s.v_dim)) {}
  Dims per_block() const { return {layers, heads, blocks}; }
  size_t n_heads() const { return layers * heads; }
};

/// Writes one array of all heads, (L, H, ...).
template <class T, class Member>
void write_heads(H5Output& file, const std::string& name, const Dims& dims,
                 const std::vector<HeadCalibration>& heads, Member member) {
  std::vector<T> all;
  size_t n = 1;
  for (const uint64_t d : dims) n *= d;
  for (const HeadCalibration& head : heads)
    all.insert(all.end(), (head.*member).begin(), (head.*member).end());
  check(all.size() == n, "calibration of every head");
  file.write(name, dims, all.data());
}

template <class T, class Member>
void read_heads(const H5Input& file, const std::string& name, const Dims& dims,
                std::vector<HeadCalibration>& heads, Member member, double least) {
  const std::vector<T> all = file.read<T>(name, dims);
  check_finite(file, name, {all.begin(), all.end()}, least);
  const size_t width = all.size() / heads.size();
  for (size_t h = 0; h < heads.size(); ++h)
    (heads[h].*member).assign(all.begin() + h * width, all.begin() + (h + 1) * width);
}

/// Reads the centres; does nothing where the file has none.
void read_centres(const H5Input& file, const std::string& name, const Sizes& s, uint64_t dim,
                  std::vector<HeadCalibration>& heads, std::vector<float> HeadCalibration::*member) {
  if (!file.has(name)) return;
  const uint64_t m = file.dims(name, 4)[2];
  if (m < 2 || m > uint64_t(kMaxCentres) || !std::has_single_bit(m))
    fail_input("{}: {}: {} centres, allowed powers of two from 2 to {}", file.path(), name, m, kMaxCentres);
  read_heads<float>(file, name, {s.layers, s.heads, m, dim}, heads, member, kAnything);
}

void write_calibration(H5Output& file, const BitMap& map, const Sizes& s) {
  const auto& heads = map.calibration;
  check(heads.size() == s.n_heads(), "calibration of every head");
  write_heads<double>(file, "q_energy", s.per_block(), heads, &HeadCalibration::q_energy);
  write_heads<double>(file, "k_energy", s.per_block(), heads, &HeadCalibration::k_energy);
  write_heads<double>(file, "k_mean", {s.layers, s.heads, s.head_dim}, heads, &HeadCalibration::k_mean);
  write_heads<double>(file, "v_mean", {s.layers, s.heads, s.v_dim}, heads, &HeadCalibration::v_mean);
  if (!heads[0].k_spectrum.empty()) {
    const Dims square = {s.layers, s.heads, s.head_dim, s.head_dim};
    write_heads<double>(file, "k_spectrum", {s.layers, s.heads, s.head_dim}, heads,
                        &HeadCalibration::k_spectrum);
    write_heads<float>(file, "k_forward", square, heads, &HeadCalibration::k_forward);
    write_heads<float>(file, "k_backward", square, heads, &HeadCalibration::k_backward);
  }
  if (const uint64_t m = heads[0].k_centres.size() / s.head_dim; m > 0)
    write_heads<float>(file, "k_centres", {s.layers, s.heads, m, s.head_dim}, heads,
                       &HeadCalibration::k_centres);
  if (heads[0].v_centres.size() > 0)
    write_heads<float>(file, "v_centres", {s.layers, s.heads, heads[0].v_centres.size() / s.v_dim, s.v_dim},
                       heads, &HeadCalibration::v_centres);
  if (heads[0].v_spectrum.empty()) return;
  const Dims square = {s.layers, s.heads, s.v_dim, s.v_dim};
  write_heads<double>(file, "v_spectrum", {s.layers, s.heads, s.v_dim}, heads, &HeadCalibration::v_spectrum);
  write_heads<float>(file, "v_forward", square, heads, &HeadCalibration::v_forward);
  write_heads<float>(file, "v_backward", square, heads, &HeadCalibration::v_backward);
}

std::vector<HeadCalibration> read_calibration(const H5Input& file, const Sizes& s) {
  std::vector<HeadCalibration> heads(s.n_heads());
  read_heads<double>(file, "q_energy", s.per_block(), heads, &HeadCalibration::q_energy, 0);
  read_heads<double>(file, "k_energy", s.per_block(), heads, &HeadCalibration::k_energy, 0);
  read_heads<double>(file, "k_mean", {s.layers, s.heads, s.head_dim}, heads, &HeadCalibration::k_mean,
                     kAnything);
  read_heads<double>(file, "v_mean", {s.layers, s.heads, s.v_dim}, heads, &HeadCalibration::v_mean,
                     kAnything);
  if (file.has("k_spectrum")) {
    const Dims square = {s.layers, s.heads, s.head_dim, s.head_dim};
    read_heads<double>(file, "k_spectrum", {s.layers, s.heads, s.head_dim}, heads,
                       &HeadCalibration::k_spectrum, 0);
    read_heads<float>(file, "k_forward", square, heads, &HeadCalibration::k_forward, kAnything);
    read_heads<float>(file, "k_backward", square, heads, &HeadCalibration::k_backward, kAnything);
  }
  read_centres(file, "k_centres", s, s.head_dim, heads, &HeadCalibration::k_centres);
  read_centres(file, "v_centres", s, s.v_dim, heads, &HeadCalibration::v_centres);
  if (!file.has("v_spectrum")) return heads;
  const Dims square = {s.layers, s.heads, s.v_dim, s.v_dim};
  read_heads<double>(file, "v_spectrum", {s.layers, s.heads, s.v_dim}, heads, &HeadCalibration::v_spectrum,
                     0);
  read_heads<float>(file, "v_forward", square, heads, &HeadCalibration::v_forward, kAnything);
  read_heads<float>(file, "v_backward", square, heads, &HeadCalibration::v_backward, kAnything);
  return heads;
}

/// One array of bits of all budgets, (n_budgets, L, H, n); not written where the budgets have none.
using BudgetBits = std::vector<uint8_t> Budget::*;

void write_bits(H5Output& file, const std::string& name, const Sizes& s, uint64_t n,
                const std::vector<Budget>& budgets, BudgetBits member) {
  std::vector<uint8_t> all;
  for (const Budget& b : budgets) {
    check((b.*member).size() == s.n_heads() * n, "bits of every head");
    all.insert(all.end(), (b.*member).begin(), (b.*member).end());
  }
  file.write(name, {budgets.size(), s.layers, s.heads, n}, all.data());
}

void read_bits(const H5Input& file, const std::string& name, const Sizes& s, uint64_t n, int least, int most,
               std::vector<Budget>& budgets, BudgetBits member) {
  const std::vector<uint8_t> all = file.read<uint8_t>(name, {budgets.size(), s.layers, s.heads, n});
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i] < least || all[i] > most)
      fail_input("{}: {}: {} at {}, allowed {} to {}", file.path(), name, all[i], i, least, most);
  const size_t size = s.n_heads() * n;
  for (size_t b = 0; b < budgets.size(); ++b)
    (budgets[b].*member).assign(all.begin() + b * size, all.begin() + (b + 1) * size);
}

}  // namespace

void write_map(const fs::path& path, const BitMap& map) {
  const Sizes sizes(map.shape);
  check(map.energy.size() == sizes.n_heads() * sizes.blocks, "energies (L, H, B)");
  check(map.budgets.size() <= kMaxBudgets, "number of budgets");
  std::vector<double> average_bits;
  for (const Budget& b : map.budgets) average_bits.push_back(b.average_bits);
  const std::vector<int32_t> coords = block_coords(map.shape.layout);

  H5Output file(path, kSchema, version_for(map.shape, kVersion));
  write_preamble(file, map.shape, map.signature, map.provenance);
  file.put_text("method", map.method);
  file.put_int("min_bits", map.min_bits);
  file.put_int("max_bits", map.max_bits);
  file.put_u64("seed", map.seed);
  for (const auto& [key, value] : kIdentity) file.put_text(key, value);
  if (!map.choices.empty()) file.write_strings("choice", {1}, {choices_json(map.choices).dump()});
  file.write("average_bits", {average_bits.size()}, average_bits.data());
  write_bits(file, "bits", sizes, sizes.blocks, map.budgets, &Budget::bits);
  file.write("energy", sizes.per_block(), map.energy.data());
  file.write("coords", {sizes.blocks, 2}, coords.data());
  if (!map.calibration.empty()) {
    write_calibration(file, map, sizes);
    write_bits(file, "product_bits", sizes, sizes.blocks, map.budgets, &Budget::product_bits);
    if (!map.calibration[0].k_spectrum.empty())
      write_bits(file, "key_bits", sizes, sizes.head_dim / 2, map.budgets, &Budget::key_bits);
    if (!map.calibration[0].v_spectrum.empty())
      write_bits(file, "value_bits", sizes, sizes.v_dim / 2, map.budgets, &Budget::value_bits);
  }
  file.finish();
}

BitMap read_map(const fs::path& path) {
  const H5Input file(path, kSchema, kSpecialVersion);
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

  const Sizes sizes(map.shape);
  map.energy = file.read<double>("energy", sizes.per_block());
  check_finite(file, "energy", map.energy, 0);
  if (file.read<int32_t>("coords", {sizes.blocks, 2}) != block_coords(map.shape.layout))
    fail_input("{}: coords: other than head_dim, rotary_dim and pairing say", file.path());
  if (file.has("choice")) {
    const std::string what = file.path() + ": choice";
    map.choices = parse_choices(parse_json(file.read_strings("choice", {1})[0], what), what);
  }
  const bool calibrated = file.has("q_energy");
  if (calibrated) map.calibration = read_calibration(file, sizes);
  if (!file.has("average_bits")) return map;

  const uint64_t n_budgets = file.dims("average_bits", 1)[0];
  if (n_budgets > kMaxBudgets)
    fail_input("{}: average_bits: {} budgets, allowed {}", file.path(), n_budgets, kMaxBudgets);
  for (const double average : file.read<double>("average_bits", {n_budgets})) {
    if (!(average >= map.min_bits && average <= map.max_bits) ||
        (!map.budgets.empty() && average <= map.budgets.back().average_bits))
      fail_input("{}: average_bits: {}, allowed {} to {}, ascending", file.path(), average, map.min_bits,
                 map.max_bits);
    Budget& budget = map.budgets.emplace_back(Budget{average});
    budget.min_bits = map.min_bits;
    budget.max_bits = map.max_bits;
    budget.published = std::none_of(map.provenance.begin(), map.provenance.end(),
                                    [](const auto& row) { return row.first == kAllocatorKey; });
  }
  read_bits(file, "bits", sizes, sizes.blocks, map.min_bits, map.max_bits, map.budgets, &Budget::bits);
  if (calibrated)
    read_bits(file, "product_bits", sizes, sizes.blocks, map.min_bits, map.max_bits, map.budgets,
              &Budget::product_bits);
  if (calibrated && !map.calibration[0].k_spectrum.empty())
    read_bits(file, "key_bits", sizes, sizes.head_dim / 2, 0, kMaxBits, map.budgets, &Budget::key_bits);
  if (calibrated && !map.calibration[0].v_spectrum.empty())
    read_bits(file, "value_bits", sizes, sizes.v_dim / 2, 0, kMaxBits, map.budgets, &Budget::value_bits);
  return map;
}

}  // namespace blockgtq
