#pragma once
#include <string>

#include "base/json.h"
#include "quant/stats.h"

namespace blockgtq {

/// Root mean square norms of every layer over its heads and the calibration tokens: [{"layer", "query",
/// "key", "key_mean_share" (of the keys' energy, what their mean per head has), "value" and "key_to_value"
/// where values are cached}].
Json layer_norms(const Stats& stats);

/// What makes a cache of this model hard to quantize: a plain sentence each, and the numbers of every layer.
/// norms: of layer_norms, or null. layers: of eval-logits, whose sink_attention counts where it is there.
/// Empty where neither has a number.
std::string risk_section(const Json& norms, const Json& layers);

}  // namespace blockgtq
