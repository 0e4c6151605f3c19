#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quant/allocator.h"

namespace blockgtq {

enum class Scope { head, layer, model };
Scope parse_scope(const std::string& name);
const char* name(Scope scope);

/// How one budget goes round the heads of a model.
struct ShareSpec {
  AllocatorSpec allocator;
  Scope share = Scope::head;  // who spends one sum: each head its own, or the heads of a layer or of the
                              // model where the logit error falls most
  Scope equal =
      Scope::head;  // within a layer or the model every head is given, and stored in, the same bytes
};

/// The same as these statistics ask for: with the distortions that exact and mixing go by (those of the
/// codebook that the methods of the form take: the published one, or the exact one for balanced keys), and
/// under --compat reference greedy stops where the published code does.
ShareSpec spec_of(ShareSpec spec, KeyForm form, const Stats& stats);

/// What departs from the published allocation, in words; empty where nothing does.
std::string describe(const ShareSpec& spec);

/// Bits of every head, (L, H, B), for every budget, in bytes per token and head on average. heads (L * H).
/// Exit::usage where a budget lies below the narrowest width or above the widest.
/// A pool minimizes its heads' summed squared logit error over the lower convex hulls of their curves, and
/// what the last step leaves goes to the best gain that fits: no more than one hull segment above the
/// optimum.
std::vector<std::vector<uint8_t>> allocate_heads(std::span<const HeadEnergy> heads, int n_kv_heads,
                                                 const ShareSpec& spec, std::span<const double> bytes);

/// Bytes per token of every head, (L * H), padded to the largest of its scope where `equal` asks for that.
/// bits (L, H, B).
std::vector<double> head_bytes(std::span<const uint8_t> bits, int n_heads, int n_kv_heads, const Cost& cost,
                               Scope equal);

}  // namespace blockgtq
