#include "quant/cut_runs.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace blockgtq {

namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

/// The table of the dynamic programme: the least error of the first j blocks at cost c in g runs. It is
/// filled width by width, widest first.
class RunTable {
 public:
  RunTable(const RunProblem& problem, int64_t capacity)
      : p_(problem),
        n_blocks_(problem.n_blocks),
        // No head can spend more than this. So the table stays small whatever the budget.
        capacity_(std::min<int64_t>(capacity, int64_t(n_blocks_) * problem.widths.back() +
                                                  int64_t(problem.per_group) * problem.widths.size())),
        // Runs need to be counted only where there are more allowed widths than allowed runs.
        levels_(problem.max_groups < int(problem.widths.size()) ? problem.max_groups + 1 : 1),
        error_(size_t(levels_) * (n_blocks_ + 1) * (capacity_ + 1), kNone),
        run_(problem.widths.size(), std::vector<uint16_t>(error_.size())) {
    error_[at(0, 0, 0)] = 0;
    for (size_t stage = 0; stage < p_.widths.size(); ++stage) add_width(stage);
  }

  Cuts best(int64_t capacity) const {
    Cuts cuts;
    cuts.error = kNone;
    int level = 0;
    int64_t cost = 0;
    for (int64_t c = 0; c <= std::min(capacity, capacity_); ++c)
      for (int g = 0; g < levels_; ++g)
        if (error_[at(g, n_blocks_, c)] < cuts.error) {
          cuts.error = error_[at(g, n_blocks_, c)];
          level = g;
          cost = c;
        }
    if (cuts.error == kNone) return cuts;
    cuts.bits.resize(n_blocks_);
    int end = n_blocks_;
    for (size_t stage = p_.widths.size(); stage-- > 0;) {
      const int length = run_[stage][at(level, end, cost)];
      if (length == 0) continue;
      std::fill_n(cuts.bits.begin() + (end - length), length, uint8_t(width(stage)));
      end -= length;
      cost -= cost_of(stage, length);
      if (levels_ > 1) --level;
    }
    check(end == 0 && cost == 0, "cut_runs: the way back does not end where it began");
    return cuts;
  }

 private:
  int width(size_t stage) const { return p_.widths[p_.widths.size() - 1 - stage]; }
  int64_t cost_of(size_t stage, int length) const {
    return width(stage) == 0 ? 0 : p_.per_group + int64_t(length) * width(stage);
  }
  size_t at(int level, int blocks, int64_t cost) const {
    return (size_t(level) * (n_blocks_ + 1) + blocks) * size_t(capacity_ + 1) + size_t(cost);
  }

  /// Adds the runs of one width, in place. A run ends behind its beginning. Ends are taken from the last one
  /// down, so no run follows another of its own width.
  void add_width(size_t stage) {
    const int narrowest = p_.widths[0], w = width(stage);
    std::vector<uint16_t>& run = run_[stage];
    for (int end = n_blocks_; end > 0; end -= p_.multiple)
      for (int first = 0; first < end; first += p_.multiple) {
        const int length = end - first;
        const double error = p_.error(w, first, end);
        const int64_t cost = cost_of(stage, length);
        // The blocks before this run have wider widths, the blocks behind it at least the narrowest.
        const int64_t low = int64_t(first) * (w + 1);
        const int64_t high =
            std::min(capacity_ - cost - int64_t(n_blocks_ - end) * narrowest, first == 0 ? 0 : capacity_);
        for (int g = levels_ > 1 ? levels_ - 2 : 0; g >= 0; --g) {
          const double* from = &error_[at(g, first, 0)];
          const size_t to = at(levels_ > 1 ? g + 1 : 0, end, 0) + size_t(cost);
          for (int64_t c = low; c <= high; ++c) {
            const double total = from[c] + error;
            if (total < error_[to + c]) {
              error_[to + c] = total;
              run[to + c] = uint16_t(length);
            }
          }
        }
      }
  }

  const RunProblem& p_;
  int n_blocks_;
  int64_t capacity_;
  int levels_;
  std::vector<double> error_;  // (levels, n_blocks + 1, capacity + 1)
  std::vector<std::vector<uint16_t>>
      run_;  // (widths)(as error_) length of the last run of that width; 0: none
};

}  // namespace

std::vector<Cuts> cut_runs(const RunProblem& problem, std::span<const int64_t> capacities) {
  check(problem.n_blocks >= 1 && !problem.widths.empty() && problem.max_groups >= 1, "cut_runs: no problem");
  check(problem.multiple >= 1 && problem.n_blocks % problem.multiple == 0, "cut_runs: multiple of blocks");
  check(std::is_sorted(problem.widths.begin(), problem.widths.end()), "cut_runs: widths out of order");
  const int64_t largest = capacities.empty() ? 0 : *std::max_element(capacities.begin(), capacities.end());
  const RunTable table(problem, std::max<int64_t>(largest, 0));
  std::vector<Cuts> cuts;
  for (const int64_t capacity : capacities) cuts.push_back(table.best(capacity));
  return cuts;
}

}  // namespace blockgtq
