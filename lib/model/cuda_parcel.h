#pragma once
#include <cstddef>
#include <unordered_map>
#include <vector>

#include "kernels/device/float_type.h"
#include "kernels/forward/dequantize.h"
#include "model/weights.h"

namespace blockgtq {

/// The weights that one stage of a run needs (a layer, or the output layer), as they lie together in device
/// memory. Matrices are as the checkpoint stores them, quantized ones in their blocks. Other tensors (norms,
/// biases, convolutions), and matrices whose scales are stored apart, are float32. Every tensor begins at a
/// multiple of 256 bytes, except that the up projection follows its gate without a gap, so that both are one
/// matrix.
struct Parcel {
  struct Item {
    const Tensor* tensor;
    int64_t offset;  // bytes from the parcel's start
    bool to_float;   // lies_as_float() of it
    /// The unit in which its elements are copied: a quantized block stays whole.
    BlockSize unit() const { return to_float ? BlockSize{1, 4} : block_size(tensor->dtype); }
    int64_t bytes() const { return tensor->elements() / unit().elements * unit().bytes; }
  };
  std::vector<Item> items;
  int64_t bytes = 0;

  int64_t arena_offset = 0;  // its place in the memory for weights
  int after = -1;            // it may be written once work on parcel `after` is done; -1: at once

  /// Offset of a tensor of this parcel.
  int64_t offset_of(const Tensor& tensor) const { return offsets.at(tensor.data.data()); }
  std::unordered_map<const std::byte*, int64_t> offsets;  // by the tensor's first byte in the checkpoint
};

/// The parcel of a layer. projections_only: what the last layer needs where nothing follows its projections.
/// The tensors must outlive the parcel.
Parcel pack_layer(const LayerWeights& weights, bool projections_only);
Parcel pack_output(const OuterWeights& outer);

/// Whether a tensor is float32 on the device, whatever the checkpoint stores.
bool lies_as_float(const Tensor& tensor);
/// The type of products that loses nothing of a weight stored as `dtype`.
cuda::FloatType float_type(DType dtype);
/// Whether a product of that type can read the weight as it lies in device memory, without a conversion.
bool is_stored_as(const Tensor& weight, cuda::FloatType type);
/// The kernels' name of a quantized type.
cuda::BlockType block_type(DType dtype);

}  // namespace blockgtq
