#include "map_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "cache_run.h"
#include "choose.h"
#include "eval/candidate.h"
#include "quant/bit_split.h"
#include "report/number.h"
#include "serve/cache_spec.h"

namespace blockgtq {
namespace {

/// In the order of comparison; the first, scalar, is the reference.
const std::vector<std::string> kKeyCandidates = {"tq-mse", "tq-mse-cb", "tq-mse-centres", "block-gtq-cb"};
const std::vector<std::string> kValueCandidates = {"tq-mse", "tq-mse-centred", "tq-mse-centres"};

/// These bits on one side, the other exact.
BitPair pair_of(Side side, double bits) {
  return side == Side::keys ? BitPair{bits, 0} : BitPair{0, bits};
}

/// All that quantizes this side alone and that the map has the means for.
std::vector<CacheSpec> side_specs(Side side, double bits, const ExactWindow& exact, const BitMap& map) {
  const bool keys = side == Side::keys;
  if (!keys && map.shape.v_dim == 0) return {};
  const HeadCalibration& head = map.calibration.at(0);
  const bool centres = !(keys ? head.k_centres : head.v_centres).empty();
  const BitPair pair = pair_of(side, bits);
  std::vector<CacheSpec> specs;
  for (const std::string& method : keys ? kKeyCandidates : kValueCandidates)
    for (const Code code : {Code::scalar, Code::trellis})
      if (centres || method != "tq-mse-centres")
        specs.push_back({keys ? method : "", keys ? "" : method, pair, exact, code_of(pair, code)});
  return specs;
}

}  // namespace

void add_map_choice_options(CLI::App& command, MapChoiceOptions& o) {
  CLI::Option* choose = command.add_flag(
      "--choose", o.choose,
      "Measure methods on the tokens behind --tokens and write into the map which one to take for keys and "
      "for values at every budget: tq-mse, or what has less KL at the same bytes, beyond noise");
  command.add_option("--choose-tokens", o.tokens, "Tokens that --choose measures on")
      ->check(in_range(int64_t(2), int64_t(1) << 40))
      ->needs(choose)
      ->capture_default_str();
  command.add_option("--choose-chunk", o.chunk, "Tokens per window of these; 0: one window")
      ->check(in_range(int64_t(0), int64_t(1) << 30))
      ->needs(choose)
      ->capture_default_str();
  const auto exact = [&](const char* option, int64_t& n, const char* which) {
    command
        .add_option(option, n,
                    fmt::format("What the caches of --choose hold exactly: --{} of perplexity", which))
        ->check(in_range(int64_t(0), int64_t(1) << 30))
        ->needs(choose)
        ->capture_default_str();
  };
  exact("--choose-sink", o.exact.sink, "sink");
  exact("--choose-recent", o.exact.recent, "recent");
}

void check_map_choice(const RunOptions& calibration, const AllocationOptions& allocation) {
  if (calibration.tokens == 0) throw Error(Exit::usage, "--choose needs tokens behind those of --tokens");
  if (std::find(calibration.files.begin(), calibration.files.end(), "-") != calibration.files.end())
    throw Error(Exit::usage, "--choose reads the text twice: give a file");
  if (allocation.in_bytes())
    throw Error(Exit::usage, "--choose compares with tq-mse, which takes whole bits: give --bits");
  for (const double bits : parse_bits(allocation.bits.empty() ? "3" : allocation.bits))
    if (bits != std::floor(bits))
      throw Error(Exit::usage,
                  fmt::format("--choose compares with tq-mse, which takes whole bits: {:g}", bits));
}

std::vector<MethodChoice> choose_methods(const BitMap& map, const Session& text, const ExactWindow& exact,
                                         Codebook codebook, Progress& progress, const Stages& stages) {
  std::vector<MethodChoice> choices;
  for (const Budget& budget : map.budgets) {
    const double bits = budget.average_bits;
    std::vector<CacheSpec> specs = side_specs(Side::keys, bits, exact, map);
    for (const CacheSpec& spec : side_specs(Side::values, bits, exact, map)) specs.push_back(spec);
    std::vector<QuantizedCache> caches;
    for (const CacheSpec& spec : specs) caches.push_back(make_cache(spec, text.shape, &map, codebook));
    const std::string what = fmt::format("choosing at {:g} bits", bits);
    const QualityRun run = measure_quality(text, caches, what, progress, stages.begin(what, text));
    for (const Side side : {Side::keys, Side::values}) {
      const BitPair pair = pair_of(side, bits);
      MethodChoice choice{side, bits, text.n_tokens(), {}, 0, exact};
      std::vector<Candidate> candidates;
      for (size_t i = 0; i < specs.size(); ++i) {
        const CacheSpec& spec = specs[i];
        if (spec.bits != pair) continue;
        const double bytes = caches[i].key_bytes(text.chunk) + caches[i].value_bytes(text.chunk);
        candidates.push_back({run.kl[i], bytes});
        choice.candidates.push_back({spec.k_method + spec.v_method, pair.k ? spec.code.k : spec.code.v, bytes,
                                     run.caches[i].kl_mean, run.caches[i].kl_error});
      }
      if (candidates.empty()) continue;
      choice.best = choose(candidates, n_numbers(pair, text.shape));
      choices.push_back(std::move(choice));
    }
  }
  return choices;
}

Table map_choice_table(const std::vector<MethodChoice>& choices) {
  Table table({"side", "bits", "method", "code", "bytes/token", "KL", "KL of tq-mse", "tokens"});
  for (const MethodChoice& choice : choices) {
    const MethodScore& chosen = choice.chosen();
    const std::string exact = exact_text(choice.exact), held = exact.empty() ? "" : exact + ": ";
    table.row({name(choice.side), bits_text(choice.bits), held + chosen.method, name(chosen.code),
               fmt::format("{:g}", chosen.bytes),
               fmt::format("{} ± {}", three_digits(chosen.kl), three_digits(chosen.kl_error)),
               three_digits(choice.candidates[0].kl), std::to_string(choice.n_tokens)});
  }
  return table;
}

}  // namespace blockgtq
