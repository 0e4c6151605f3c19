// reference-npz: arrays for the published Python code, JIA-Lab-research/blockgtq 3fe14e7d. It reads no bits
// from files (its benches read activations): BlockGTQPipeline (blockgtq/block_gtq_pipeline.py) takes
// bit_allocation, int64 per block, and makes everything else of it in _post_allocation_setup(), "safe to
// re-run after mutating self.bit_allocation". README.md has the lines that do so.
//   bit_allocation (L, H, B) int64, scores (L, H, B) float64, and as zero-dimensional arrays head_dim,
//   min_bits, max_bits, rotation_threshold (int64) and avg_bits (float64)
// Its block i is the coordinates i and i + D/2, and its rotations have seed 42 + bits: maps of models that
// pair otherwise, or of another seed, cannot be expressed.
#include <cstring>

#include "base/error.h"
#include "report/engine_formats.h"
#include "report/npy.h"
#include "report/zip.h"

namespace blockgtq {
namespace {

constexpr uint64_t kSeed = 42;

template <class T>
std::string bytes_of(const T* values, size_t n) {
  return {reinterpret_cast<const char*>(values), n * sizeof(T)};
}

void require_published_layout(const BitMap& map) {
  const BlockLayout& layout = map.shape.layout;
  if (layout.pairing != Pairing::half || layout.rotary_dim != layout.head_dim)
    throw Error(
        Exit::input,
        fmt::format("map: {} pairing over {} of {} coordinates: the published code pairs (i, i + D/2)",
                    name(layout.pairing), layout.rotary_dim, layout.head_dim),
        "a map of --compat reference is paired so");
  if (map.seed != kSeed) fail_input("map: seed {}: the published code has {}", map.seed, kSeed);
}

std::vector<size_t> cells(const BitMap& map) {
  return {size_t(map.shape.n_layers), size_t(map.shape.n_kv_heads), size_t(map.n_blocks())};
}

}  // namespace

EngineExport write_reference_npz(const BitMap& map, const Budget& budget, const EngineOptions&) {
  require_published_layout(map);
  const std::vector<int64_t> bits(budget.bits.begin(), budget.bits.end());
  const auto whole = [](int64_t value) { return npy_array("<i8", {}, bytes_of(&value, 1)); };
  return {zip_archive(
              {{"bit_allocation.npy", npy_array("<i8", cells(map), bytes_of(bits.data(), bits.size()))},
               {"scores.npy", npy_array("<f8", cells(map), bytes_of(map.energy.data(), map.energy.size()))},
               {"head_dim.npy", whole(map.shape.layout.head_dim)},
               {"min_bits.npy", whole(budget.min_bits)},
               {"max_bits.npy", whole(budget.max_bits)},
               {"rotation_threshold.npy", whole(1)},  // every group is rotated, as the paper's are
               {"avg_bits.npy", npy_array("<f8", {}, bytes_of(&budget.average_bits, 1))}}),
          budget.bits};
}

std::vector<uint8_t> read_reference_npz(const std::string& bytes, const BitMap& map, const Budget&,
                                        const std::string& file) {
  require_published_layout(map);
  for (const auto& [name, array] : unzip(bytes, file)) {
    if (name != "bit_allocation.npy") continue;
    const std::string data = npy_data(array, "<i8", cells(map), file + ": " + name);
    std::vector<int64_t> wide(data.size() / sizeof(int64_t));
    std::memcpy(wide.data(), data.data(), data.size());
    for (const int64_t bits : wide)
      if (bits < 1 || bits > 8) fail_input("{}: {}: {} bits found, 1 to 8 wanted", file, name, bits);
    return {wide.begin(), wide.end()};
  }
  fail_input("{}: no bit_allocation", file);
}

}  // namespace blockgtq
