#include "report/engine_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/codebook.h"
#include "report/engine_formats.h"

namespace blockgtq {

const std::vector<EngineFormat>& engine_formats() {
  static const std::vector<EngineFormat> formats = {
      {"llama-ctk", "BASE[,PROTECTED]: q4_0, iq4_nl, q4_1, q5_0, q5_1, q6_0, q8_0, f16", write_llama_ctk,
       read_llama_ctk},
      {"vllm-skip-layers",
       "fp8, int8_per_token_head, int4_per_token_head, nvfp4, turboquant_3bit_nc, turboquant_k3v4_nc, "
       "turboquant_4bit_nc, turboquant_k8v4",
       write_vllm_skip_layers, read_vllm_skip_layers},
      {"modelopt", "BASE[,PROTECTED]: NVFP4, FP8, FP8_K_NVFP4_V", write_modelopt, read_modelopt},
      {"turboquant-kv", "turboquant25, turboquant35", write_turboquant_kv, read_turboquant_kv},
      {"ranges", "", write_ranges, read_ranges},
      {"vbr-degrade-order", "", write_vbr_degrade_order, read_vbr_degrade_order},
      {"oscar", "keys, values", write_oscar, read_oscar},
      {"reference-npz", "", write_reference_npz, read_reference_npz}};
  return formats;
}

const EngineFormat* find_engine_format(const std::string& name) {
  for (const EngineFormat& format : engine_formats())
    if (format.name == name) return &format;
  return nullptr;
}

ProjectionLoss projection_loss(const BitMap& map, const Budget& budget, const std::vector<uint8_t>& bits) {
  check(bits.size() == budget.bits.size() && bits.size() == map.energy.size(), "a projection of every block");
  ProjectionLoss loss;
  double error = 0, of_map = 0, even = 0;
  for (size_t i = 0; i < bits.size(); ++i) {
    loss.bits += bits[i];
    loss.of_map += budget.bits[i];
    loss.unchanged += bits[i] == budget.bits[i];
    error += bits[i] < kUnquantized ? std::ldexp(map.energy[i], -2 * bits[i]) : 0;
    of_map += std::ldexp(map.energy[i], -2 * budget.bits[i]);
    even += map.energy[i] * std::exp2(-2 * budget.average_bits);
  }
  const double n = double(bits.size());
  loss.bits /= n;
  loss.of_map /= n;
  loss.unchanged /= n;
  loss.error = error == of_map ? 1 : error / of_map;
  loss.even = even == of_map ? 1 : even / of_map;
  return loss;
}

std::string describe(const ProjectionLoss& loss) {
  return fmt::format(
      "{:.2f} bits per key coordinate, the map has {:.2f}; predicted error {:.3g} times the map's (even "
      "bits: "
      "{:.3g}); {:.1f} % of the blocks keep their bits",
      loss.bits, loss.of_map, loss.error, loss.even, 100 * loss.unchanged);
}

BitMap projected_map(const BitMap& map, const Budget& budget, const std::vector<uint8_t>& bits,
                     const std::string& format) {
  if (const auto most = std::max_element(bits.begin(), bits.end()); *most > kMaxBits)
    fail_input("{}: {} bits in layer {}: a map holds at most {}", format, *most,
               (most - bits.begin()) / (map.shape.n_kv_heads * map.n_blocks()), kMaxBits);
  BitMap projected = map;
  Budget held = budget;
  held.average_bits = projection_loss(map, budget, bits).bits;
  held.bits = bits;
  if (!held.product_bits.empty()) held.product_bits = bits;
  held.published = false;
  projected.min_bits = held.min_bits = *std::min_element(bits.begin(), bits.end());
  projected.max_bits = held.max_bits = *std::max_element(bits.begin(), bits.end());
  projected.budgets = {held};
  projected.choices.clear();
  std::erase_if(projected.provenance, [](const auto& row) { return row.first == kAllocatorKey; });
  projected.provenance.emplace_back(
      kAllocatorKey, fmt::format("what {} can express of {:g} bits", format, budget.average_bits));
  return projected;
}

}  // namespace blockgtq
