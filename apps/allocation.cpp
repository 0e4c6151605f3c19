#include "allocation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "quant/stability.h"
#include "report/table.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

constexpr uint64_t kResampleSeed = 42;
constexpr int64_t kMaxContext = int64_t(1) << 40;

/// "2,3,4,8" -> ascending widths without repetition; empty: every one.
std::vector<int> parse_widths(const std::string& text) {
  if (text.empty()) return width_range(1, kMaxBits);
  std::vector<int> widths;
  std::istringstream parts(text + ",");
  for (std::string part; std::getline(parts, part, ',');) {
    if (part.size() != 1 || part[0] < '1' || part[0] > '0' + kMaxBits)
      throw Error(
          Exit::usage,
          fmt::format("--allowed-bits: '{}' is not a width of 1 to {} bits (2,3,4,8)", part, kMaxBits),
          part == "0" ? "every block of a key keeps at least one bit" : "");
    widths.push_back(part[0] - '0');
  }
  std::sort(widths.begin(), widths.end());
  widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
  return widths;
}

ShareSpec make_spec(const AllocationOptions& o) {
  ShareSpec spec;
  spec.share = parse_scope(o.share);
  spec.equal = parse_scope(o.equal);
  AllocatorSpec& a = spec.allocator;
  a.allocator = parse_allocator(o.allocator);
  // A budget in bytes counts every byte unless told otherwise; bits are nominal, as published.
  a.cost.kind = !o.cost.empty() ? parse_cost(o.cost) : o.in_bytes() ? CostKind::packed : CostKind::nominal;
  a.cost.norms = parse_norms(o.norms);
  a.max_groups = o.max_groups;
  if (o.min_bits > o.max_bits)
    throw Error(Exit::usage, fmt::format("bits per block: {} to {} found, a range within 1 to {} allowed",
                                         o.min_bits, o.max_bits, kMaxBits));
  a.widths.clear();
  for (const int w : parse_widths(o.allowed_bits))
    if (w >= o.min_bits && w <= o.max_bits) a.widths.push_back(w);
  check_allocator(a);
  return spec;
}

/// Average bits per coordinate.
std::vector<double> averages(const AllocationOptions& o, const AttentionShape& shape) {
  if (!o.in_bytes()) return parse_bits(o.bits.empty() ? "3" : o.bits);
  const double bytes = o.memory.empty()
                           ? o.bytes_per_token
                           : double(parse_bytes(o.memory, "--budget-memory")) / double(o.context);
  return {8 * bytes / (double(shape.n_layers) * shape.n_kv_heads * shape.layout.head_dim)};
}

/// Heads that have 1, 2, ... 8 groups.
std::vector<int> heads_by_groups(const std::vector<uint8_t>& bits, int n_blocks) {
  std::vector<int> heads(kMaxBits);
  for (size_t first = 0; first < bits.size(); first += n_blocks) {
    unsigned widths = 0;
    for (int b = 0; b < n_blocks; ++b) widths |= 1u << bits[first + b];
    ++heads[__builtin_popcount(widths) - 1];
  }
  return heads;
}

double total(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

/// One budget's bytes per token of the whole model.
struct Price {
  double counted, packed;  // as --cost has it; as a key is stored
};

Price price(const BitMap& map, const Budget& budget, const ShareSpec& spec) {
  const int n_heads = map.shape.n_layers * map.shape.n_kv_heads;
  auto bytes = [&](CostKind kind) {
    return total(head_bytes(budget.bits, n_heads, map.shape.n_kv_heads, {kind, spec.allocator.cost.norms},
                            spec.equal));
  };
  return {bytes(spec.allocator.cost.kind), bytes(CostKind::packed)};
}

Json stability_json(const Stability& stability) {
  Json json = Json::object();
  if (!stability.changed.empty()) json["changed_between_halves"] = stability.changed;
  if (!stability.same.empty()) {
    json["resampled_same"] = total(stability.same) / double(stability.same.size());
    json["resampled_same_per_block"] = stability.same;
  }
  return json;
}

void say_stability(const Stability& stability, double bits, const GlobalOptions& global) {
  if (stability.changed.empty()) {
    global.note(fmt::format("{} bits: one chunk only, nothing to compare", bits_text(bits)));
  } else {
    std::string layers;
    for (const double changed : stability.changed) layers += fmt::format(" {:.1f}", 100 * changed);
    global.note(
        fmt::format("{} bits: blocks whose bits change between the halves of the text, % per layer:{}",
                    bits_text(bits), layers));
  }
  if (!stability.same.empty())
    global.note(fmt::format("{} bits: {:.1f} % of the blocks keep their bits when chunks are resampled",
                            bits_text(bits), 100 * total(stability.same) / double(stability.same.size())));
}

}  // namespace

void add_allocation_options(CLI::App& command, AllocationOptions& o) {
  CLI::Option* bits =
      command.add_option("--bits", o.bits, "Average bits per coordinate: 3 (default), or 2,3,4, or 2.5");
  CLI::Option* bytes =
      command
          .add_option("--budget-bytes-per-token", o.bytes_per_token,
                      "In place of --bits: bytes of all keys of one token, layers and KV heads together")
          ->check(in_range(1e-3, 1e12))
          ->excludes(bits);
  CLI::Option* context = command.add_option("--context", o.context, "Tokens that --budget-memory must hold")
                             ->check(in_range(int64_t(1), kMaxContext));
  CLI::Option* memory =
      command
          .add_option("--budget-memory", o.memory,
                      "In place of --bits: memory for the keys of --context tokens, as 8GiB")
          ->excludes(bits)
          ->excludes(bytes)
          ->needs(context);
  context->needs(memory);
  command
      .add_option(
          "--cost", o.cost,
          "What a budget counts: nominal (bits alone, as published; default with --bits), packed (norms "
          "and padding too; default with a budget of bytes), page (as in a page of 64 tokens)")
      ->check(CLI::IsMember({"nominal", "packed", "page"}));
  command
      .add_option("--norms", o.norms, "fp16 norms that a key is charged for: one per group, or one per key")
      ->check(CLI::IsMember({"group", "key"}))
      ->capture_default_str();
  command
      .add_option("--allocator", o.allocator,
                  "greedy (as published), exact (optimum of the same sum, with the codebook's distortions), "
                  "mixing (least logit error, the rotation inside a group included)")
      ->check(CLI::IsMember({"greedy", "exact", "mixing"}))
      ->capture_default_str();
  command.add_option("--min-bits", o.min_bits, "Fewest bits of a block")
      ->check(in_range(1, kMaxBits))
      ->capture_default_str();
  command.add_option("--max-bits", o.max_bits, "Most bits of a block")
      ->check(in_range(1, kMaxBits))
      ->capture_default_str();
  command.add_option("--allowed-bits", o.allowed_bits,
                     "The widths a block may have, as 2,3,4,8 (allocators exact and mixing)");
  command.add_option("--max-groups", o.max_groups, "Most groups of a head (allocators exact and mixing)")
      ->check(in_range(1, kMaxBits))
      ->capture_default_str();
  command
      .add_option(
          "--share", o.share,
          "Who spends one budget: each head its own, or the heads of a layer or of the model together")
      ->check(CLI::IsMember({"head", "layer", "model"}))
      ->capture_default_str();
  command
      .add_option("--equal", o.equal,
                  "Give all heads of a layer or of the model the same bytes, whatever they share")
      ->check(CLI::IsMember({"head", "layer", "model"}))
      ->capture_default_str();
  command
      .add_option("--resamples", o.resamples,
                  "Resamples of the text's chunks for the stability figures of -v and --json; 0: none")
      ->check(in_range(0, 100000))
      ->capture_default_str();
  command.add_option("--json", o.json,
                     "What the map costs and how stable it is, as JSON; - for standard output");
}

void check_allocation(const AllocationOptions& o) {
  make_spec(o);
  if (!o.in_bytes())
    parse_bits(o.bits.empty() ? "3" : o.bits);
  else if (!o.memory.empty())
    parse_bytes(o.memory, "--budget-memory");
}

void allocate_and_report(const Stats& stats, const AllocationOptions& o, const OutputOptions& output,
                         OutputFile& file, const GlobalOptions& global) {
  const ShareSpec spec = make_spec(o);
  const BitMap map = make_bit_map(stats, averages(o, stats.shape), spec);
  write_map(file.temporary(), map);
  file.commit();

  const AttentionShape& shape = map.shape;
  const double n_coords = double(shape.n_layers) * shape.n_kv_heads * shape.layout.head_dim;
  Table table({"bits", fmt::format("{} bytes/token", name(spec.allocator.cost.kind)), "K bytes/token",
               "effective bits", "heads by groups"});
  Json json = {{"schema", "blockgtq.allocate/1"},
               {"allocator", name(spec.allocator.allocator)},
               {"cost", name(spec.allocator.cost.kind)},
               {"norms", name(spec.allocator.cost.norms)},
               {"widths", spec.allocator.widths},
               {"max_groups", spec.allocator.max_groups},
               {"share", name(spec.share)},
               {"equal", name(spec.equal)},
               {"budgets", Json::array()}};
  for (const Budget& budget : map.budgets) {
    const Price cost = price(map, budget, spec);
    const std::vector<int> groups = heads_by_groups(budget.bits, map.n_blocks());
    std::string by_groups;
    for (int g = 0; g < kMaxBits; ++g)
      if (groups[g] > 0)
        by_groups += fmt::format("{}{} x {}", by_groups.empty() ? "" : ", ", groups[g], g + 1);
    table.row({bits_text(budget.average_bits), fmt::format("{:g}", cost.counted),
               fmt::format("{:g}", cost.packed), fmt::format("{:.4g}", 8 * cost.packed / n_coords),
               by_groups});
    Json row = {{"bits", budget.average_bits},
                {"counted_bytes_per_token", cost.counted},
                {"bytes_per_token", cost.packed},
                {"effective_bits", 8 * cost.packed / n_coords},
                {"heads_by_groups", groups}};
    if (!o.json.empty() || global.verbose) {
      const Stability stability =
          measure_stability(stats, KeyForm::published, spec, budget.average_bits * shape.layout.head_dim / 8,
                            o.resamples, kResampleSeed);
      row["stability"] = stability_json(stability);
      say_stability(stability, budget.average_bits, global);
    }
    json["budgets"].push_back(std::move(row));
  }
  if (o.json == "-")
    write_json(json, "-", false);
  else
    write_stdout(table.text());
  if (!o.json.empty() && o.json != "-") write_json(json, o.json, output.force);
}

}  // namespace blockgtq
