#pragma once
#include <cstddef>
#include <unordered_map>
#include <vector>

#include "kernels/device/float_type.h"
#include "kernels/forward/dequantize.h"
#include "model/weights.h"

namespace blockgtq {

/// The weights of one stretch of a run (a layer, or the output layer) as they lie together in device memory:
/// matrices as the checkpoint stores them, quantized ones in their blocks, others (norms, biases,
/// convolutions) and matrices whose scales lie apart as float32, every tensor at a multiple of 256 bytes. The
/// up projection follows its gate without a gap, so that both are one matrix.
struct Parcel {
  struct Item {
    const Tensor* tensor;
    int64_t offset;  // bytes from the parcel's start
    bool to_float;   // lies_as_float() of it
    /// What is not taken apart on the way.
    BlockSize unit() const { return to_float ? BlockSize{1, 4} : block_size(tensor->dtype); }
    int64_t bytes() const { return tensor->elements() / unit().elements * unit().bytes; }
  };
  std::vector<Item> items;
  int64_t bytes = 0;

  int64_t arena_offset = 0;  // where it goes in the memory for weights
  int after = -1;            // it may be written once work on that parcel is done; -1: at once

  /// Offset of a tensor of this parcel.
  int64_t offset_of(const Tensor& tensor) const { return offsets.at(tensor.data.data()); }
  std::unordered_map<const std::byte*, int64_t> offsets;  // by the tensor's first byte in the checkpoint
};

/// A layer; projections_only: what the last layer needs where nothing follows it. The tensors must outlive
/// the parcel.
Parcel pack_layer(const LayerWeights& weights, bool projections_only);
Parcel pack_output(const OuterWeights& outer);

bool lies_as_float(const Tensor& tensor);
/// The type of products that keeps all of a weight stored as `dtype`.
cuda::FloatType float_type(DType dtype);
/// Whether a product of that type reads the weight as it lies in device memory.
bool is_stored_as(const Tensor& weight, cuda::FloatType type);
/// The kernels' name of a quantized type.
cuda::BlockType block_type(DType dtype);

}  // namespace blockgtq
