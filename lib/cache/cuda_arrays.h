#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "cache/packed_cache.h"
#include "kernels/cache/packed_encode.h"

// Device memory, MMA fragments and centring that the tables of scalar and of trellis codes share.

namespace blockgtq {

/// Owns arrays in device memory.
class DeviceArrays {
 public:
  /// Uploads a copy of `values` and returns its device address. Waits.
  template <class T>
  const T* keep(const std::vector<T>& values, const cuda::Stream& stream) {
    buffers_.emplace_back(values.size() * sizeof(T));
    cuda::upload(buffers_.back().as(), values.data(), values.size() * sizeof(T), stream);
    stream.synchronize();  // the vector may end
    return buffers_.back().as<T>();
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const cuda::Buffer& buffer : buffers_) sum += int64_t(buffer.bytes());
    return sum;
  }

 private:
  std::vector<cuda::Buffer> buffers_;
};

using Entry = std::function<float(int row, int column)>;  // an entry of a matrix

/// Appends 16 rows, tile by tile of 16 x 16, as the A fragments of mma.m16n8k16 in fp16: (columns /
/// 16)(lane)(register)(half).
void append_rows(std::vector<uint16_t>& out, int columns, const Entry& entry);

/// Appends the same 16 rows as two B fragments: rows are their columns n.
void append_columns(std::vector<uint16_t>& out, int columns, const Entry& entry);

/// What the kernels need for centring in one layer. Either all heads of a side have a mean, or none has.
struct CentredSides {
  bool keys = false, values = false;
  std::vector<float> value_mean;                  // (H, D)
  std::vector<float> key_rows;                    // (H, 64, D): R_j mean for j = 0 .. 63
  std::vector<uint16_t> key_fragments;            // see PackedLayer::key_mean
  std::vector<float> angles;                      // (pages, D / 2, 2)
  std::vector<int16_t> coords;                    // (D / 2, 2)
  std::vector<cuda::MeanCoordinate> coordinates;  // (D)
  struct Rules {
    std::vector<float> weights, limits;  // (H, D) and (H): see cuda::MeanRules
  };
  Rules key_rules, value_rules;
  /// longest: positions of the longest sequence, for which the angles are computed.
  CentredSides(const PackedSpec& spec, int64_t longest);
};

/// Uploads it, and sets the fields of `layer` that it provides.
void keep_means(const CentredSides& centred, cuda::PackedLayer& layer, DeviceArrays& arrays,
                const cuda::Stream& stream);

/// Uploads the centres of values, if there are any, and sets `layer.centres`. Exit::input where there are
/// more than kMostCentresOnDevice.
void keep_centres(const PackedSpec& spec, cuda::PackedLayer& layer, DeviceArrays& arrays,
                  const cuda::Stream& stream);

}  // namespace blockgtq
