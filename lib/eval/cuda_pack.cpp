#include "eval/cuda_codes.h"
#include "eval/pack.h"
#include "kernels/codes/tq_mse.h"

namespace blockgtq {

std::vector<PackedHead> cuda_pack_layer(const HeadQuantizers& quantizers, const float* k, int64_t n_tokens) {
  std::vector<cuda::CodeSpec> specs;
  for (const auto& quantizer : quantizers) specs.push_back(code_spec(*quantizer));
  const cuda::Stream stream;
  const cuda::CodeTables tables(specs, stream);
  const cuda::CodeBatch batch{&tables, 0, int(quantizers.size()), n_tokens};

  const size_t key_bytes = size_t(n_tokens) * quantizers.size() * tables.dim() * sizeof(float);
  const cuda::Buffer keys(key_bytes), codes(batch.code_bytes()), sums(2 * quantizers.size() * sizeof(double)),
      scratch(cuda::exact_scratch(batch) * sizeof(double));
  cuda::upload(keys.as(), k, key_bytes, stream);
  cuda::encode_exact(batch, keys.as(), cuda::FloatType::f32, codes.as<uint8_t>(), sums.as<double>(),
                     scratch.as<double>(), stream);
  std::vector<double> totals(2 * quantizers.size());  // (H, 2)
  cuda::download(totals.data(), sums.as(), sums.bytes(), stream);
  std::vector<PackedHead> heads(quantizers.size());
  for (size_t h = 0; h < heads.size(); ++h) {
    heads[h].code_bytes = quantizers[h]->code_bytes();
    heads[h].codes.resize(n_tokens * heads[h].code_bytes);
    cuda::download(heads[h].codes.data(), codes.as<uint8_t>() + batch.offset(int(h)), heads[h].codes.size(),
                   stream);
  }
  stream.synchronize();
  for (size_t h = 0; h < heads.size(); ++h)
    heads[h].error = totals[2 * h], heads[h].energy = totals[2 * h + 1],
    heads[h].clipped = quantizers[h]->clipped(heads[h].codes.data(), size_t(n_tokens));
  return heads;
}

}  // namespace blockgtq
