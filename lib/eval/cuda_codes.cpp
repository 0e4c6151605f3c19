#include "eval/cuda_codes.h"

#include "quant/tq_mse.h"

namespace blockgtq {

cuda::CodeSpec code_spec(const Quantizer& quantizer) {
  cuda::CodeSpec spec{quantizer.dim(), quantizer.code_bytes(), {}};
  for (const CodeGroup& g : quantizer.groups())
    spec.groups.push_back({g.tq->bits(), g.coords, g.tq->rotation(), g.tq->centroids(), g.tq->boundaries(),
                           g.norm_byte, g.bit_offset});
  return spec;
}

}  // namespace blockgtq
