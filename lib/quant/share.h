#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quant/allocator.h"

namespace blockgtq {

/// A range of heads: one head, all heads of a layer, or all heads of the model.
enum class Scope { head, layer, model };
/// Exit::usage for any other name.
Scope parse_scope(const std::string& name);
const char* name(Scope scope);

/// How a budget is shared among the heads of a model.
struct ShareSpec {
  AllocatorSpec allocator;
  /// The heads of one scope share a budget, so that their total logit error is least.
  Scope share = Scope::head;
  /// All heads of one scope get, and are stored in, the same number of bytes.
  Scope equal = Scope::head;
};

/// `spec` completed for these statistics. exact and mixing get the distortion of the codebook that methods of
/// this form use: the published one, or the exact one for balanced keys. Under --compat reference greedy
/// stops where the published code does.
ShareSpec spec_of(ShareSpec spec, KeyForm form, const Stats& stats);

/// How spec departs from the published allocation, in words; empty where it does not.
std::string describe(const ShareSpec& spec);

/// The bits of all heads, (L, H, B), for every budget in `bytes`: bytes per token and head, on average over
/// heads. heads (L * H).
/// Heads that share a budget minimize the sum of their squared logit errors over the lower convex hulls of
/// their curves of error against cost. What the last step leaves over goes to the best gain that fits. The
/// result is at most one hull segment above the optimum.
/// Exit::usage where a budget is below the narrowest width or above the widest.
std::vector<std::vector<uint8_t>> allocate_heads(std::span<const HeadEnergy> heads, int n_kv_heads,
                                                 const ShareSpec& spec, std::span<const double> bytes);

/// Bytes per token of every head, (L * H), for bits (L, H, B). The heads of one scope of `equal` are padded
/// to the largest of them.
std::vector<double> head_bytes(std::span<const uint8_t> bits, int n_heads, int n_kv_heads, const Cost& cost,
                               Scope equal);

}  // namespace blockgtq
