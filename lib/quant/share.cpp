#include "quant/share.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"

namespace blockgtq {

namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

// Heads that get the same number of bytes: one head, or all heads of a layer or of the model.
struct Member {
  size_t first, count;        // of its heads
  std::vector<double> error;  // (steps + 1): of all its heads together, where each gets that many steps
};

// The corners of the lower convex hull of a curve, from its first finite point to its minimum.
std::vector<size_t> hull(const std::vector<double>& error) {
  std::vector<size_t> corners;
  for (size_t s = 0; s < error.size(); ++s) {
    if (error[s] == kNone || (!corners.empty() && error[s] >= error[corners.back()])) continue;
    auto slope = [&](size_t a, size_t b) { return (error[a] - error[b]) / double(b - a); };
    while (corners.size() > 1 &&
           slope(corners[corners.size() - 2], corners.back()) <= slope(corners.back(), s))
      corners.pop_back();
    corners.push_back(s);
  }
  return corners;
}

// Steps per head for every member of a pool, which has `total` steps for all of its heads.
std::vector<size_t> spend(std::span<const Member> members, int64_t total) {
  std::vector<std::vector<size_t>> corners;
  std::vector<size_t> at(members.size()), given;
  for (const Member& m : members) {
    corners.push_back(hull(m.error));
    check(!corners.back().empty(), "share: a curve without a finite error");
    given.push_back(corners.back()[0]);
    total -= int64_t(given.back() * m.count);
  }
  check(total >= 0, "share: a pool too small for its heads");

  // Hull segments by descending gain per step; of equal gains the lowest member first. After a segment that
  // does not fit, its member gets no more from the hull.
  struct Segment {
    double gain;
    size_t member;
    bool operator<(const Segment& o) const { return gain < o.gain || (gain == o.gain && member > o.member); }
  };
  std::vector<Segment> heap;
  auto push = [&](size_t m) {
    if (at[m] + 1 == corners[m].size()) return;
    const size_t from = corners[m][at[m]], to = corners[m][at[m] + 1];
    const std::vector<double>& error = members[m].error;
    heap.push_back({(error[from] - error[to]) / double((to - from) * members[m].count), m});
    std::push_heap(heap.begin(), heap.end());
  };
  for (size_t m = 0; m < members.size(); ++m) push(m);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const size_t m = heap.back().member;
    heap.pop_back();
    const int64_t cost = int64_t((corners[m][at[m] + 1] - given[m]) * members[m].count);
    if (cost > total) continue;
    total -= cost;
    given[m] = corners[m][++at[m]];
    push(m);
  }

  // The rest goes, one member after the other, to the largest gain that fits, off the hull too.
  for (;;) {
    double best_gain = 0;
    size_t best = 0, best_steps = 0;
    for (size_t m = 0; m < members.size(); ++m) {
      const std::vector<double>& error = members[m].error;
      const size_t last = std::min(error.size() - 1, given[m] + size_t(total) / members[m].count);
      for (size_t s = given[m] + 1; s <= last; ++s)
        if (error[given[m]] - error[s] > best_gain)
          best_gain = error[given[m]] - error[s], best = m, best_steps = s;
    }
    if (best_gain == 0) return given;
    total -= int64_t((best_steps - given[best]) * members[best].count);
    given[best] = best_steps;
  }
}

size_t scope_size(Scope scope, size_t n_heads, int n_kv_heads) {
  return scope == Scope::head ? 1 : scope == Scope::layer ? size_t(n_kv_heads) : n_heads;
}

void check_budget(double bytes, int n_blocks, const AllocatorSpec& spec) {
  const Cost& cost = spec.cost;
  const int step = cost.step(), least = n_blocks * spec.widths.front() + cost.per_group() + cost.per_key();
  const double average = 4 * bytes / n_blocks, low = double((least + step - 1) / step * step) / n_blocks;
  // The guard is that of Cost::block_bits(), so that an average at either end is inside.
  if (average >= low - 1e-9 / n_blocks && average <= spec.widths.back() + 1e-9 / n_blocks) return;
  throw Error(Exit::usage,
              fmt::format("average bits: {:g} found, {:g} to {} allowed{}", average, low, spec.widths.back(),
                          cost.kind == CostKind::nominal ? "" : ", norms counted"));
}

}  // namespace

Scope parse_scope(const std::string& text) {
  for (const Scope s : {Scope::head, Scope::layer, Scope::model})
    if (text == name(s)) return s;
  throw Error(Exit::usage, fmt::format("scope: '{}' found, head, layer or model allowed", text));
}

const char* name(Scope scope) {
  return scope == Scope::head ? "head" : scope == Scope::layer ? "layer" : "model";
}

ShareSpec spec_of(ShareSpec spec, KeyForm form, const Stats& stats) {
  if (spec.allocator.allocator != Allocator::greedy)
    spec.allocator.distortion = Distortion::of_codebook(
        form == KeyForm::published ? Codebook::reference : Codebook::exact, stats.shape.layout.n_blocks());
  const std::pair<std::string, std::string> reference("compat", "reference");
  spec.allocator.stop_without_gain =
      std::find(stats.provenance.begin(), stats.provenance.end(), reference) != stats.provenance.end();
  return spec;
}

std::string describe(const ShareSpec& spec) {
  const AllocatorSpec &a = spec.allocator, published;
  std::vector<std::string> parts;
  if (a.allocator != published.allocator) parts.push_back(name(a.allocator));
  if (a.cost.kind != published.cost.kind)
    parts.push_back(fmt::format("{} cost with one norm per {}", name(a.cost.kind), name(a.cost.norms)));
  if (a.widths != width_range(a.widths.front(), a.widths.back()))  // a full range is in the map itself
    parts.push_back(fmt::format("bits {}", fmt::join(a.widths, ",")));
  if (a.max_groups != published.max_groups) parts.push_back(fmt::format("at most {} groups", a.max_groups));
  if (a.group_blocks != published.group_blocks)
    parts.push_back(fmt::format("groups of a multiple of {} blocks", a.group_blocks));
  if (spec.share != Scope::head) parts.push_back(fmt::format("budget of the {}", name(spec.share)));
  if (spec.equal != Scope::head) parts.push_back(fmt::format("equal heads of the {}", name(spec.equal)));
  return fmt::format("{}", fmt::join(parts, "; "));
}

std::vector<std::vector<uint8_t>> allocate_heads(std::span<const HeadEnergy> heads, int n_kv_heads,
                                                 const ShareSpec& spec, std::span<const double> bytes) {
  check_allocator(spec.allocator);
  check(!heads.empty() && n_kv_heads >= 1 && heads.size() % size_t(n_kv_heads) == 0 && !bytes.empty(),
        "allocate_heads: no heads, or no budget");
  const size_t n_heads = heads.size(), n_blocks = heads[0].score.size();
  const Cost& cost = spec.allocator.cost;
  for (const double b : bytes) check_budget(b, int(n_blocks), spec.allocator);

  // Heads that must be equal are one member. In a pool of one member every head gets the average.
  const size_t per_member = scope_size(spec.equal, n_heads, n_kv_heads),
               per_pool = std::max(scope_size(spec.share, n_heads, n_kv_heads), per_member);
  const bool pooled = per_pool > per_member;
  std::vector<int64_t> capacities;
  if (pooled) {
    const int64_t most = cost.per_key() + int64_t(n_blocks) * spec.allocator.widths.back() +
                         int64_t(cost.per_group()) * int64_t(spec.allocator.widths.size());
    for (int64_t c = 0; c < most + cost.step(); c += cost.step()) capacities.push_back(c);
  } else {
    for (const double b : bytes) capacities.push_back(cost.block_bits(b));
  }
  std::vector<std::vector<Allocation>> found(n_heads);  // (L * H)(capacities)
  parallel_for(n_heads, [&](size_t h) { found[h] = allocate_head(heads[h], spec.allocator, capacities); });

  std::vector<std::vector<uint8_t>> all(bytes.size(), std::vector<uint8_t>(n_heads * n_blocks));
  auto take = [&](size_t budget, size_t head, size_t capacity) {
    const std::vector<uint8_t>& bits = found[head][capacity].bits;
    check(bits.size() == n_blocks, "allocate_heads: a head without bits");
    std::copy(bits.begin(), bits.end(), all[budget].begin() + head * n_blocks);
  };
  if (!pooled) {
    for (size_t i = 0; i < bytes.size(); ++i)
      for (size_t h = 0; h < n_heads; ++h) take(i, h, i);
    return all;
  }
  std::vector<Member> members;
  for (size_t first = 0; first < n_heads; first += per_member) {
    Member& m = members.emplace_back(Member{first, per_member, std::vector<double>(capacities.size())});
    for (size_t h = first; h < first + per_member; ++h)
      for (size_t c = 0; c < capacities.size(); ++c) m.error[c] += found[h][c].error;
  }
  const size_t members_per_pool = per_pool / per_member;
  for (size_t i = 0; i < bytes.size(); ++i)
    for (size_t first = 0; first < members.size(); first += members_per_pool) {
      const auto pool = std::span(members).subspan(first, members_per_pool);
      const std::vector<size_t> given =
          spend(pool, cost.block_bits(bytes[i] * double(per_pool)) / cost.step());
      for (size_t m = 0; m < pool.size(); ++m)
        for (size_t h = pool[m].first; h < pool[m].first + pool[m].count; ++h) take(i, h, given[m]);
    }
  return all;
}

std::vector<double> head_bytes(std::span<const uint8_t> bits, int n_heads, int n_kv_heads, const Cost& cost,
                               Scope equal) {
  check(n_heads > 0 && bits.size() % size_t(n_heads) == 0, "head_bytes: bits (L, H, B)");
  const size_t n_blocks = bits.size() / size_t(n_heads),
               group = scope_size(equal, size_t(n_heads), n_kv_heads);
  std::vector<double> bytes;
  for (int h = 0; h < n_heads; ++h) bytes.push_back(cost.bytes(bits.subspan(h * n_blocks, n_blocks)));
  for (size_t first = 0; first < bytes.size(); first += group)
    std::fill_n(bytes.begin() + first, group,
                *std::max_element(bytes.begin() + first, bytes.begin() + first + group));
  return bytes;
}

}  // namespace blockgtq
