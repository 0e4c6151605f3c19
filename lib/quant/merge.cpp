#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"
#include "quant/stats.h"

namespace blockgtq {

namespace {

// Chunks [first, end) of the run in words, with the run's part or parts where they are whole parts.
std::string describe(const Stats& stats, int64_t first, int64_t end) {
  std::string text =
      end - first == 1 ? fmt::format("chunk {}", first) : fmt::format("chunks {} to {}", first, end - 1);
  if (stats.run_chunks > 0) text += fmt::format(" of {}", stats.run_chunks);
  int64_t first_part = 0, last_part = 0;
  for (int64_t i = 1; i <= stats.n_parts && stats.n_parts > 1; ++i) {
    const ChunkRange part = part_chunks(i, stats.n_parts, stats.run_chunks);
    if (part.first == first) first_part = i;
    if (part.end == end) last_part = i;
  }
  if (first_part == 0 || last_part == 0) return text;
  return text + (first_part == last_part
                     ? fmt::format(" (part {} of {})", first_part, stats.n_parts)
                     : fmt::format(" (parts {} to {} of {})", first_part, last_part, stats.n_parts));
}

// Sums of finite sums can overflow where a file holds numbers that no model produces.
void require_finite(const DyadicSum& sum, const char* what, int layer, const std::string& file) {
  for (const DyadicSum::Node& node : sum.nodes())
    for (const double x : node.value)
      if (!std::isfinite(x))
        throw Error(Exit::nonfinite,
                    fmt::format("{}: layer {}: sum of {}: {} with what was merged before it, finite "
                                "numbers allowed",
                                file, layer, what, x));
}

std::string value(const Provenance& provenance, const std::string& key) {
  for (const auto& [name, value] : provenance)
    if (name == key) return value;
  return "";
}

// Checks that a part is of the same run: the same signature, and as many tokens, because the last chunk of a
// shorter run may be cut where others are whole. The error names what differs, where the files say it.
void require_one_run(const Stats& part, const std::string& name, const Stats& typical,
                     const std::string& typical_name) {
  const std::string tokens = value(part.provenance, "tokens"), allowed = value(typical.provenance, "tokens");
  if (part.signature == typical.signature && (tokens == allowed || tokens.empty() || allowed.empty())) return;
  for (const char* key :
       {"weights", "corpus_sha256", "chunk", "bos", "dtype", "compat", "calibrate_from", "tokens"})
    if (const std::string found = value(part.provenance, key), want = value(typical.provenance, key);
        found != want)
      fail_input("{}: statistics of another run than {}: {} '{}' found, '{}' allowed", name, typical_name,
                 key, found, want);
  fail_input("{}: statistics of another model, corpus or options: signature {} found, {} of {} allowed", name,
             part.signature, typical.signature, typical_name);
}

// The first part of the run that most parts belong to. So the error names the odd part, wherever it is.
size_t typical_part(const std::vector<Stats>& parts) {
  std::map<std::string, int> count;
  for (const Stats& part : parts) ++count[part.signature];
  const auto most = std::max_element(parts.begin(), parts.end(), [&](const Stats& a, const Stats& b) {
    return count[a.signature] < count[b.signature];
  });
  return size_t(most - parts.begin());
}

// The chunks of the run that all parts belong to; 0 where no file says it (version 1).
int64_t common_run(const std::vector<Stats>& parts, const std::vector<std::string>& names) {
  size_t known = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].run_chunks == 0) continue;
    if (parts[known].run_chunks == 0) known = i;
    if (parts[i].run_chunks != parts[known].run_chunks)
      fail_input("{}: of a run of {} chunks, {} of {} allowed", names[i], parts[i].run_chunks,
                 parts[known].run_chunks, names[known]);
  }
  return parts[known].run_chunks;
}

// The number of parts that the run was cut into, if all files agree; else 0.
int64_t common_parts(const std::vector<Stats>& parts) {
  for (const Stats& part : parts)
    if (part.n_parts != parts[0].n_parts) return 0;
  return parts[0].n_parts;
}

}  // namespace

ChunkRange part_chunks(int64_t part, int64_t n_parts, int64_t n_chunks) {
  return {(part - 1) * n_chunks / n_parts, part * n_chunks / n_parts};
}

int64_t part_number(const Stats& stats) {
  for (int64_t i = 1; i <= stats.n_parts; ++i) {
    const ChunkRange part = part_chunks(i, stats.n_parts, stats.run_chunks);
    if (part.first == stats.first_chunk && part.end == stats.first_chunk + stats.n_chunks()) return i;
  }
  return 0;
}

std::string missing_chunks(const Stats& stats) {
  std::string text;
  if (stats.first_chunk > 0) text = describe(stats, 0, stats.first_chunk);
  const int64_t end = stats.first_chunk + stats.n_chunks();
  if (end < stats.run_chunks) text += (text.empty() ? "" : ", ") + describe(stats, end, stats.run_chunks);
  return text;
}

void require_complete(const Stats& stats, const std::string& name, const std::string& hint) {
  const std::string missing = missing_chunks(stats);
  if (!missing.empty())
    throw Error(Exit::input, fmt::format("{}: incomplete statistics: missing: {}", name, missing), hint);
}

Stats merge(std::vector<Stats> parts, const std::vector<std::string>& names) {
  check(!parts.empty() && parts.size() == names.size(),
        "merge: nothing to merge, or another number of names");
  const size_t typical = typical_part(parts);
  for (size_t i = 0; i < parts.size(); ++i) {
    check_sizes(parts[i]);
    require_one_run(parts[i], names[i], parts[typical], names[typical]);
    if (!(parts[i].shape == parts[typical].shape))
      fail_input("{}: heads, RoPE or modules differ from those of {} under the same signature", names[i],
                 names[typical]);
  }
  std::vector<size_t> order(parts.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return parts[a].first_chunk < parts[b].first_chunk; });

  const int64_t run_chunks = common_run(parts, names), n_parts = common_parts(parts);
  Stats whole = std::move(parts[order[0]]);
  for (size_t i = 1; i < order.size(); ++i) {
    const Stats& next = parts[order[i]];
    const int64_t end = whole.first_chunk + whole.n_chunks();
    if (next.first_chunk > end)
      fail_input("{}: missing between {} and this: {}", names[order[i]], names[order[i - 1]],
                 describe(next, end, next.first_chunk));
    if (next.first_chunk < end)
      fail_input("{}: overlapping chunks after {}: first chunk {} found, {} allowed", names[order[i]],
                 names[order[i - 1]], next.first_chunk, end);
    whole.chunk_tokens.insert(whole.chunk_tokens.end(), next.chunk_tokens.begin(), next.chunk_tokens.end());
    for (size_t l = 0; l < whole.layers.size(); ++l) {
      LayerStats& to = whole.layers[l];
      const LayerStats& from = next.layers[l];
      append(to.q2, from.q2);
      append(to.k2, from.k2);
      append(to.k_sum, from.k_sum);
      append(to.v_sum, from.v_sum);
      append(to.k_sample, from.k_sample);
      append(to.v_sample, from.v_sample);
      to.kk.append(from.kk);
      to.vv.append(from.vv);
      require_finite(to.kk, "k k^T", int(l), names[order[i]]);
      require_finite(to.vv, "v v^T", int(l), names[order[i]]);
    }
  }
  if (const int64_t end = whole.first_chunk + whole.n_chunks(); run_chunks > 0 && end > run_chunks)
    fail_input("{}: {} chunks found, {} of the whole run allowed", names[order.back()], end, run_chunks);
  whole.run_chunks = run_chunks;
  const bool complete = run_chunks > 0 && missing_chunks(whole).empty();
  whole.n_parts = complete ? 1 : n_parts;  // a complete file does not say how it was made
  return whole;
}

}  // namespace blockgtq
