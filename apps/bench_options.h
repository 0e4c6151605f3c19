#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cache_spec.h"

namespace blockgtq {

/// "4k" or "4096" -> a count from 1 to 4096k; Exit::usage otherwise, which names the option.
int64_t parse_count(const std::string& text, const char* option);

/// "K3V2,K4V4" -> pairs of whole bits for keys and for values; Exit::usage otherwise.
std::vector<BitPair> whole_pairs(const std::string& text, const char* option = "--bits");

/// Exit::usage, which names the option, for bits that trellis codes have no pages for.
void check_trellis_bits(const std::vector<BitPair>& pairs, const char* option);

/// Exit::usage for what is no kind of keys: uniform, mixed, published, centred, and `more`.
void check_kinds(const std::string& text, const std::vector<std::string>& more);

}  // namespace blockgtq
