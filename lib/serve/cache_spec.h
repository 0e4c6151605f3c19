#pragma once
#include <string>
#include <vector>

#include "base/progress.h"
#include "eval/quantized_cache.h"
#include "quant/bit_map.h"
#include "quant/bit_split.h"
#include "quant/exact_window.h"
#include "quant/methods.h"

namespace blockgtq {

/// "K2V3", "K2" or "V2.5"; Exit::usage otherwise, which names `what`.
BitPair parse_pair(const std::string& text, const char* what);
std::string pair_text(const BitPair& pair);  // "K2V3"; "exact"

/// "sink 4, recent 64"; empty where none is exact.
std::string exact_text(const ExactWindow& exact);

/// What the bits of keys and of values mean.
struct CodePair {
  Code k = Code::scalar, v = Code::scalar;
  bool operator==(const CodePair&) const = default;
};
/// This code for what has bits; what is exact is scalar, so that equal caches have equal codes.
CodePair code_of(const BitPair& bits, Code code);

/// The name of a method that stands for what the map chose.
inline constexpr const char* kChosen = "chosen";

/// How keys and values are held: a method each, empty where they are exact, the positions that
/// are exact all the same, and what the bits mean.
struct CacheSpec {
  std::string k_method, v_method;
  BitPair bits;
  ExactWindow exact;
  CodePair code;
  bool operator==(const CacheSpec&) const = default;
};

std::string code_text(const CacheSpec& spec);  // "trellis"; "trellis / scalar" of keys and values that differ
std::string describe(const CacheSpec& spec);   // "K2V3 block-gtq / tq-mse, sink 4, recent 64"
std::string width_text(const CacheSpec& spec);  // "K2V3, sink 4, recent 64"; "exact"

/// Whether all that is quantized can have these codes.
bool has_codes(const CacheSpec& spec);

/// Exit::usage where a method that takes whole bits has a fraction of one.
void require_bits(const CacheSpec& spec);

/// All names that a cache's methods can have, `chosen` included.
const std::vector<Method>& key_method_names();
const std::vector<Method>& value_method_names();

/// The methods of pages where none is named (empty): the published ones, which have no pages of trellis
/// codes, or, where neither is named, the best ones that do.
void name_page_methods(std::string& key, std::string& value, bool trellis);

/// With the map's methods and codes in the place of "chosen", no cache twice. Exit::input where the map holds
/// no choice for a budget, Exit::usage where there is no map. A warning where the choice was measured with
/// other exact positions.
std::vector<CacheSpec> resolve_chosen(const std::vector<CacheSpec>& specs, const BitMap* map,
                                      Progress& progress);

/// The quantizers of a model. The map must hold the budgets; it may be null where no method needs one
/// (Exit::usage).
QuantizedCache make_cache(const CacheSpec& spec, const AttentionShape& shape, const BitMap* map,
                          Codebook codebook);

}  // namespace blockgtq
