#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "quant/bit_map.h"

/// A name that breaks whatever does not escape it.
inline const std::string kNasty = "a<&\">'|,b";

/// A map of L layers, H KV heads, head dimension D of which R rotate; bits and energies by formula, all
/// widths 1..8 occur.
blockgtq::BitMap sample_map(int n_layers, int n_kv_heads, int head_dim, int rotary_dim);

/// A panel of `n_models` models with 5 layers each, tq-mse and block-gtq at 2 and 3 bits, and one failed
/// model. block-gtq has 0.8 times the error of tq-mse in every layer, except 1.25 times in layer 4. A bit
/// more halves the error of tq-mse. A map of 2 heads, and norms of layers.
blockgtq::Json sample_panel(int n_models);
