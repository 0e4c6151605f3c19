#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "quant/codebook.h"
#include "quant/exact_window.h"

namespace blockgtq {

/// The two sides of a cache.
enum class Side { keys, values };
const char* name(Side side);

/// What one method does on one side of the cache, measured on a text with the other side exact.
struct MethodScore {
  std::string method;
  Code code = Code::scalar;
  double bytes = 0;             // per token of that side, all layers and KV heads
  double kl = 0, kl_error = 0;  // KL of the next token against the exact cache, nats; its standard error
  bool operator==(const MethodScore&) const = default;
};

/// The choice for one side at one budget.
struct MethodChoice {
  Side side = Side::keys;
  double bits = 0;                      // the budget: average bits per coordinate
  int64_t n_tokens = 0;                 // that were measured
  std::vector<MethodScore> candidates;  // in the order they were compared; the first is the reference
  size_t best = 0;                      // index into candidates
  ExactWindow exact;                    // positions that the caches held exactly

  const MethodScore& chosen() const { return candidates.at(best); }
  bool operator==(const MethodChoice&) const = default;
};

/// [{side, bits, tokens, method, code, bytes_per_token, kl, kl_error, tq_mse_kl, candidates: [{method, code,
/// bytes_per_token, kl, kl_error}]}], with sink and recent where positions were exact. The first candidate is
/// tq-mse.
Json choices_json(const std::vector<MethodChoice>& choices);
/// The inverse. Exit::input "NAME: what is wrong" for anything else.
std::vector<MethodChoice> parse_choices(const Json& json, const std::string& name);

}  // namespace blockgtq
