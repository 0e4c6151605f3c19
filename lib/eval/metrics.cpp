#include "eval/metrics.h"

#include <limits>

#include "base/error.h"

namespace blockgtq {

const char* name(Metric metric) {
  switch (metric) {
    case Metric::mae:
      return "mae";
    case Metric::mae_model:
      return "mae-model";
    case Metric::weighted:
      return "weighted";
    case Metric::kl:
      return "kl";
    case Metric::topk:
      return "topk";
    case Metric::output:
      return "output";
  }
  throw std::logic_error("name: no such metric");
}

const std::vector<Metric>& all_metrics() {
  static const std::vector<Metric> all = {Metric::mae, Metric::mae_model, Metric::weighted,
                                          Metric::kl,  Metric::topk,      Metric::output};
  return all;
}

double mean(const std::vector<ChunkSum>& chunks) {
  double sum = 0, count = 0;
  for (const ChunkSum& c : chunks) sum += c.sum, count += c.count;
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

RealAttention real_attention(const AttentionShape& shape, int layer) {
  const Rope& rope = shape.rope(layer);
  return {shape.metric_layout(), rope.inv_freq, rope.attention_factor, shape.scale, shape.window(layer)};
}

}  // namespace blockgtq
