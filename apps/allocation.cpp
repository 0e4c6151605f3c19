#include "allocation.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "map_choice.h"
#include "quant/bit_split.h"
#include "quant/stability.h"
#include "report/table.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

constexpr uint64_t kResampleSeed = 42;
constexpr int64_t kMaxContext = int64_t(1) << 40;

ShareSpec make_spec(const AllocationOptions& o) {
  // A budget in bytes counts every byte unless told otherwise; bits are nominal, as published.
  return share_spec(o.allocator, o.in_bytes() ? CostKind::packed : CostKind::nominal);
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

/// One budget's bytes per token of the whole model: as --cost has it, and as a key is stored.
struct Price {
  double counted, packed;
};

Price price(const BitMap& map, const std::vector<uint8_t>& bits, const ShareSpec& spec) {
  const int n_heads = map.shape.n_layers * map.shape.n_kv_heads;
  auto bytes = [&](CostKind kind) {
    return total(
        head_bytes(bits, n_heads, map.shape.n_kv_heads, {kind, spec.allocator.cost.norms}, spec.equal));
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

void say_stability(const Stability& stability, const std::string& what, const GlobalOptions& global) {
  if (stability.changed.empty()) {
    global.note(what + ": one chunk only, nothing to compare");
  } else {
    std::string layers;
    for (const double changed : stability.changed) layers += fmt::format(" {:.1f}", 100 * changed);
    global.note(fmt::format("{}: blocks whose bits change between the halves of the text, % per layer:{}",
                            what, layers));
  }
  if (!stability.same.empty())
    global.note(fmt::format("{}: {:.1f} % of the blocks keep their bits when chunks are resampled", what,
                            100 * total(stability.same) / double(stability.same.size())));
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
  add_allocator_options(command, o.allocator);
  add_centres_option(command, o.centres);
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

void check_allocation(const AllocationOptions& o, const AttentionShape& shape) {
  check_blocks(make_spec(o).allocator, shape.layout.n_blocks());
}

BitMap allocate(const Stats& stats, const AllocationOptions& o, std::vector<HeadCalibration> calibration) {
  return make_bit_map(stats, averages(o, stats.shape), make_spec(o), o.centres, std::move(calibration));
}

void write_and_report(const BitMap& map, const Stats& stats, const AllocationOptions& o, OutputFile& file,
                      ResultFiles& files, const GlobalOptions& global) {
  const ShareSpec spec = make_spec(o);
  write_map(file.temporary(), map);
  files.include(file);

  const AttentionShape& shape = map.shape;
  const double n_coords = double(shape.n_layers) * shape.n_kv_heads * shape.layout.head_dim;
  Table table({"bits", "score", fmt::format("{} bytes/token", name(spec.allocator.cost.kind)),
               "K bytes/token", "effective bits", "heads x groups"});
  Json json = {{"schema", "blockgtq.allocate/1"},
               {"allocator", name(spec.allocator.allocator)},
               {"cost", name(spec.allocator.cost.kind)},
               {"norms", name(spec.allocator.cost.norms)},
               {"widths", spec.allocator.widths},
               {"max_groups", spec.allocator.max_groups},
               {"group_blocks", spec.allocator.group_blocks},
               {"share", name(spec.share)},
               {"equal", name(spec.equal)},
               {"budgets", Json::array()}};
  auto add = [&](const Budget& budget, const std::vector<uint8_t>& bits, KeyForm form) {
    const char* score = form == KeyForm::published ? "published" : "product";
    const Price cost = price(map, bits, spec);
    const std::vector<int> groups = heads_by_groups(bits, map.n_blocks());
    std::string by_groups;
    for (int g = 0; g < kMaxBits; ++g)
      if (groups[g] > 0)
        by_groups += fmt::format("{}{} x {}", by_groups.empty() ? "" : ", ", groups[g], g + 1);
    table.row({bits_text(budget.average_bits), score, fmt::format("{:g}", cost.counted),
               fmt::format("{:g}", cost.packed), fmt::format("{:.4g}", 8 * cost.packed / n_coords),
               by_groups});
    Json row = {{"bits", budget.average_bits},
                {"score", score},
                {"counted_bytes_per_token", cost.counted},
                {"bytes_per_token", cost.packed},
                {"effective_bits", 8 * cost.packed / n_coords},
                {"heads_by_groups", groups}};
    if (!o.json.empty() || global.verbose) {
      const Stability stability = measure_stability(
          stats, form, spec, budget.average_bits * shape.layout.head_dim / 8, o.resamples, kResampleSeed);
      row["stability"] = stability_json(stability);
      say_stability(stability, fmt::format("{} bits, {} score", bits_text(budget.average_bits), score),
                    global);
    }
    json["budgets"].push_back(std::move(row));
  };
  for (const Budget& budget : map.budgets) {
    add(budget, budget.bits, KeyForm::published);
    add(budget, budget.product_bits, KeyForm::balanced);
  }
  std::string text = table.text();
  if (!map.choices.empty()) {
    json["choice"] = choices_json(map.choices);
    text += "\n" + map_choice_table(map.choices).text();
  }
  files.write(json, text);
}

}  // namespace blockgtq
