#pragma once
#include <string>

#include "base/json.h"
#include "quant/bit_map.h"

namespace blockgtq {

/// What a page shows of a map: {"rotary_blocks", "energy" (L, H, B) with four digits, "budgets": [{"bits",
/// "layers" (L, H) a text of one digit per block}]}, blocks from fast to slow rotation.
Json map_view(const BitMap& map);

/// Shares of blocks at 1..8 bits, [{"bits", "layers" (L, 8)}] per budget.
Json bit_shares(const BitMap& map);

/// Heat maps of layers and blocks, the energy and the bits of every budget, for a KV head to choose.
std::string map_heads(const Json& view);

/// The bit fingerprints, a chart per budget.
std::string share_charts(const Json& shares);

}  // namespace blockgtq
