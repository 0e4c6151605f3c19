// Small files of every kind, filled with numbers that depend on nothing but the seed here.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "quant/bit_map.h"
#include "quant/stats.h"
#include "store/acts_file.h"
#include "store/packed_file.h"

namespace blockgtq {

/// A folder that is removed with all that it holds.
struct TempFolder {
  fs::path path;
  TempFolder();
  ~TempFolder();
  fs::path operator/(const std::string& name) const { return path / name; }
};

/// Uniform numbers in [-1, 1), and incompressible.
struct Numbers {
  uint64_t state = 1;
  double next();
  template <class T>
  std::vector<T> array(size_t n) {
    std::vector<T> out(n);
    for (T& x : out) x = T(next());
    return out;
  }
};

AttentionShape sample_shape();  // 2 layers, 4 query heads on 2, D = 8, R = 6, Dv = 3
Provenance sample_provenance();
BitMap sample_map();
Stats sample_stats();
ActsHeader sample_acts(ActsType type, int64_t n_tokens);
PackedHeader sample_packed(int64_t n_tokens);

struct Acts {
  std::vector<std::vector<float>> q, k, v;  // (L), each (T, heads, dim)
};
Acts sample_activations(const ActsHeader& header);
void write_acts(const fs::path& path, const ActsHeader& header, const Acts& acts);
void write_packed(const fs::path& path, const PackedHeader& header, size_t code_bytes);

/// Everything that a reader of this kind can be asked for ("acts", "stats", "map", "packed").
const std::vector<std::string>& kinds();
void write_kind(const std::string& kind, const fs::path& path);
void read_kind(const std::string& kind, const fs::path& path);

std::string bytes_of(const fs::path& path);
void put_bytes(const fs::path& path, const std::string& bytes);

/// Runs `body` in a child that ends through exit(), so that exit handlers run too; its exit status, or 1000 +
/// signal.
int in_child(const std::function<int()>& body);

}  // namespace blockgtq
