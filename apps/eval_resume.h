#pragma once
#include "base/resume_file.h"
#include "eval/evaluate.h"
#include "model/backend.h"

namespace blockgtq {

/// Keeps the results of layers, and where the run that makes them stands: in front of decoder layer `layer`,
/// with this residual stream; empty where activations are read.
void save_results(ResumeFile& resume, const std::vector<LayerResult>& layers, int layer,
                  std::span<const float> residual);

/// What save_results() kept, into layers; nothing and layer 0 where it kept nothing.
LayerBoundary load_results(const ResumeFile& resume, std::vector<LayerResult>& layers, size_t residual_size);

}  // namespace blockgtq
