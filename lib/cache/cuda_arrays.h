#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "cache/packed_cache.h"
#include "kernels/cache/packed_encode.h"

// What the tables of scalar and of trellis codes are made with.

namespace blockgtq {

/// Arrays in device memory with one owner.
class DeviceArrays {
 public:
  template <class T>
  const T* keep(const std::vector<T>& values, const cuda::Stream& stream) {
    buffers_.emplace_back(values.size() * sizeof(T));
    cuda::upload(buffers_.back().as(), values.data(), values.size() * sizeof(T), stream);
    stream.synchronize();  // the vector may end
    return buffers_.back().as<T>();
  }

 private:
  std::vector<cuda::Buffer> buffers_;
};

using Entry = std::function<float(int row, int column)>;  // of a matrix

/// 16 x 16 tiles of fp16 as mma.m16n8k16 takes its A operand: (columns / 16)(lane)(register)(half).
void append_rows(std::vector<uint16_t>& out, int columns, const Entry& entry);

/// The same 16 rows as two B operands: rows are their columns n.
void append_columns(std::vector<uint16_t>& out, int columns, const Entry& entry);

/// What the kernels want of the means of a layer: all of its heads have one or none has.
struct CentredSides {
  bool keys = false, values = false;
  std::vector<float> value_mean;                  // (H, D)
  std::vector<float> key_rows;                    // (H, 64, D): R_j mean
  std::vector<uint16_t> key_fragments;            // see PackedLayer::key_mean
  std::vector<float> angles;                      // (pages, D / 2, 2)
  std::vector<int16_t> coords;                    // (D / 2, 2)
  std::vector<cuda::MeanCoordinate> coordinates;  // (D)
  struct Rules {
    std::vector<float> weights, limits;  // (H, D), (H): see cuda::MeanRules
  };
  Rules key_rules, value_rules;
  /// longest: positions of the longest sequence, which the angles are computed for.
  CentredSides(const PackedSpec& spec, int64_t longest);
};

/// Uploads it and sets what `layer` has of it.
void keep_means(const CentredSides& centred, cuda::PackedLayer& layer, DeviceArrays& arrays,
                const cuda::Stream& stream);

}  // namespace blockgtq
