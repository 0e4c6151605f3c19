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

/// Pages of a cache: "fp16", or "K3V3".
struct PageKind {
  std::string name;
  BitPair bits;
  bool is_exact() const { return bits == BitPair{}; }
};
/// "fp16,K3V3" -> kinds in that order, whole bits of both sides; Exit::usage otherwise.
std::vector<PageKind> page_kinds(const std::string& text, const char* option);

/// Exit::usage, which names the option, for bits that trellis codes have no pages for.
void check_trellis_bits(const std::vector<BitPair>& pairs, const char* option);

/// Exit::usage for what is no kind of keys: uniform, mixed, published, centred, and `more`.
void check_kinds(const std::string& text, const std::vector<std::string>& more);

}  // namespace blockgtq
