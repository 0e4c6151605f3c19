#pragma once
#include <string>
#include <vector>

#include "model/cuda_backend.h"
#include "model/cuda_parcel.h"
#include "model/cuda_workspace.h"

namespace blockgtq {

/// The part of the model that no kernel computes ("head dimension 320, at most 256"); empty where there is
/// none.
std::string without_kernel(const Config& config);

/// What a run will take of the device. It is decided before anything starts.
struct CudaPlan {
  /// Exit::device where this model does not run on a GPU, or not in min(limit, free_bytes).
  CudaPlan(const Checkpoint& model, const ForwardRequest& request, const CudaOptions& options,
           int64_t free_bytes);
  CudaPlan(const CudaPlan&) = delete;  // parcels point into layers and outer

  RunShape run;
  OuterWeights outer;
  std::vector<LayerWeights> layers;
  std::vector<Parcel> parcels;  // of the layers, then of the output layer where logits are asked for
  int64_t activation_bytes = 0;
  int64_t arena_bytes = 0;  // for weights: two layers where they fit, else one; all of them where resident
  bool resident = false;    // every parcel has a place of its own, for runs that continue a sequence

 private:
  bool keep_all(int64_t room);
};

}  // namespace blockgtq
