#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/presence.h"
#include "commands.h"
#include "evaluation.h"
#include "hf/checkpoint.h"
#include "hf/gguf.h"
#include "hf/model_files.h"
#include "hf/tokenizer.h"
#include "map_choice.h"
#include "model/backend.h"
#include "model/run_cost.h"
#include "model/weights.h"
#include "report/map_export.h"
#include "result_files.h"
#include "session.h"
#include "sheet.h"
#include "store/acts_file.h"
#include "store/map_file.h"
#include "store/packed_file.h"
#include "store/schema.h"
#include "store/stats_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string path, json, bits;
  int64_t tokens = 2048, chunk = 256;
};

void add_rope(Sheet& sheet, const Config& config, int64_t chunk) {
  const RopeConfig& rope = config.rope;
  sheet.add("rope", name(rope.type));
  sheet.add("rope_theta", rope.theta);
  if (rope.factor != 1) sheet.add("rope_factor", rope.factor);
  sheet.add("pairing", name(rope.pairing));
  sheet.add("rotary_dim", rope.rotary_dim);
  const RopeFrequencies frequencies = rope_frequencies(rope, config.max_position, chunk);
  sheet.add("inv_freq", frequencies.inv_freq);
  if (frequencies.attention_factor != 1) sheet.add("attention_factor", frequencies.attention_factor);
}

void inspect_config(Sheet& sheet, const Config& config, int64_t chunk) {
  sheet.add("verdict", "supported");
  sheet.add("model_type", config.model_type);
  sheet.add("attention", config.attention == AttentionKind::mla ? "mla (one shared rotary key)" : "gqa");
  sheet.add("layers", config.n_layers);
  sheet.add("hidden", config.hidden);
  sheet.add("query_heads", config.n_heads);
  sheet.add("kv_heads", config.n_kv_heads);
  sheet.add("head_dim", config.head_dim);
  sheet.add("blocks", config.head_dim / 2);
  if (config.moe.n_experts)
    sheet.add("experts", fmt::format("{} of {}", config.moe.n_per_token, config.moe.n_experts));
  if (const std::string what = config.peculiarities(); !what.empty()) sheet.add("special", what);
  add_rope(sheet, config, chunk);
  sheet.add("fp16_key_bytes", 2LL * int64_t(config.kv_layers().size()) * config.n_kv_heads * config.head_dim);
}

/// "Q4_1 210, F32 61", the most first.
std::string weight_types(const Checkpoint& model) {
  std::map<std::string, int> count;
  for (const auto& [name, tensor] : model.tensors()) ++count[tensor.dtype_name];
  std::vector<std::pair<int, std::string>> order;
  for (const auto& [type, n] : count) order.emplace_back(-n, type);
  std::sort(order.begin(), order.end());
  std::string text;
  for (const auto& [n, type] : order) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", type, -n);
  return text;
}

/// Weights are checked by their headers, never read.
void inspect_weights(Sheet& sheet, const Options& o, const fs::path& folder) {
  const Checkpoint model(folder);
  std::vector<std::string> remarks = check_weights(model);
  const int64_t chunk = o.chunk ? o.chunk : o.tokens;
  if (std::string text = beyond_positions(model, chunk); !text.empty()) remarks.push_back(std::move(text));
  if (!remarks.empty()) sheet.add("remarks", remarks);
  sheet.add("weights", fmt::format("{} in {} file{}", bytes_text(double(model.weight_bytes())),
                                   model.n_shards(), model.n_shards() == 1 ? "" : "s"));
  sheet.add("weight_types", weight_types(model));
  const MemoryPlan plan = plan_memory(model, o.tokens, o.chunk, false);
  sheet.add("run", fmt::format("{} tokens in windows of {}", o.tokens, chunk));
  sheet.add("memory",
            fmt::format("{} of activations and {} of weights at a time",
                        bytes_text(double(plan.activation_bytes)), bytes_text(double(plan.layer_bytes))));
  sheet.add("time", pass_time(model_size(model.config()), o.tokens).text());
}

/// A model whose texts cannot be read still runs on token ids.
void inspect_tokenizer(Sheet& sheet, const fs::path& folder) {
  const fs::path path = folder / "tokenizer.json";
  const bool gguf = is_gguf(folder);
  const std::string good = gguf ? "in the file" : "tokenizer.json";
  std::string found = good;
  try {
    if (gguf)
      static_cast<void>(open_tokenizer(folder));
    else if (is_there(path))
      static_cast<void>(Tokenizer(path));
    else
      found = "none";
  } catch (const Error& e) {
    found = fmt::format("refused: {}", e.what());
  }
  sheet.add("tokenizer", found);
  if (found != good) sheet.add("verdict", "supported with --ids in place of a text");
}

/// A config.json alone, a model folder, or a GGUF file. Where its weights are refused, the sheet says so and
/// `refused` holds the error.
Sheet inspect_model(const Options& o, const fs::path& folder, std::optional<Error>& refused) {
  Sheet sheet;
  const bool gguf = is_gguf(folder);
  const std::string config_name = (gguf ? folder : folder / "config.json").string();
  const Config config = parse_config(parse_json(config_text(folder), config_name), config_name);
  inspect_config(sheet, config, o.chunk ? o.chunk : o.tokens);
  sheet.add("path", fs::absolute(folder).lexically_normal().string());
  if (!gguf && !has_weights(folder) && !has_pickled_weights(folder)) {
    sheet.add("weights", "none in this folder");
    return sheet;
  }
  inspect_tokenizer(sheet, folder);
  try {
    inspect_weights(sheet, o, folder);
  } catch (const Error& e) {
    refused = e;
    sheet.add("verdict", "not supported");
    sheet.add("refused", e.what());
  }
  return sheet;
}

void add_shape(Sheet& sheet, const AttentionShape& shape) {
  sheet.add("layers", shape.n_layers);
  sheet.add("query_heads", shape.n_heads);
  sheet.add("kv_heads", shape.n_kv_heads);
  sheet.add("head_dim", shape.layout.head_dim);
  sheet.add("rotary_dim", shape.layout.rotary_dim);
  sheet.add("pairing", name(shape.layout.pairing));
  sheet.add("inv_freq", shape.ropes[0].inv_freq);
  if (shape.ropes.size() > 1) sheet.add("rope_of_layer", shape.rope_of_layer);
}

void add_origin(Sheet& sheet, const std::string& signature, const Provenance& provenance) {
  sheet.add("signature", signature);
  for (const auto& [key, value] : provenance) sheet.add(key, value);
}

Sheet inspect_map(const Options& o, const BitMap& map, bool color, std::string& picture) {
  Sheet sheet;
  sheet.add("file", "bit map");
  sheet.add("method", map.method);
  std::vector<double> budgets;
  for (const Budget& b : map.budgets) budgets.push_back(b.average_bits);
  sheet.add("budgets", budgets);
  add_shape(sheet, map.shape);
  add_origin(sheet, map.signature, map.provenance);
  if (!map.choices.empty()) {
    sheet.add("choice", choices_json(map.choices));
    picture = "\n" + map_choice_table(map.choices).text();
  }
  const int width = terminal_width() > 20 ? terminal_width() : 80;
  for (const Budget& b : map.budgets) {
    if (!o.bits.empty() && &b != &choose_budget(map, o.bits)) continue;
    picture += fmt::format("\n{:g} bits\n{}", b.average_bits, map_terminal(map, b, width, color));
  }
  return sheet;
}

Sheet inspect_file(const Options& o, const fs::path& path, bool color, std::string& picture) {
  const std::string schema = read_schema(path);
  if (schema == "blockgtq.map") return inspect_map(o, read_map(path), color, picture);
  Sheet sheet;
  if (schema == "blockgtq.acts") {
    const ActsReader reader(path);
    sheet.add("file", "activations");
    sheet.add("tokens", reader.header().n_tokens);
    sheet.add("chunk", reader.header().chunk);
    add_shape(sheet, reader.header().shape);
    add_origin(sheet, reader.header().signature, reader.header().provenance);
  } else if (schema == "blockgtq.stats") {
    const Stats stats = read_stats(path);
    sheet.add("file", "statistics");
    sheet.add("chunks", fmt::format("{} to {}", stats.first_chunk, stats.first_chunk + stats.n_chunks() - 1));
    if (stats.run_chunks > 0) sheet.add("run_chunks", stats.run_chunks);
    if (const int64_t part = part_number(stats))
      sheet.add("part", fmt::format("{} of {}", part, stats.n_parts));
    if (const std::string missing = missing_chunks(stats); !missing.empty()) sheet.add("missing", missing);
    sheet.add("tokens_here", stats.n_tokens());
    add_shape(sheet, stats.shape);
    add_origin(sheet, stats.signature, stats.provenance);
  } else if (schema == "blockgtq.packed") {
    const PackedReader reader(path);
    sheet.add("file", "packed keys");
    sheet.add("method", reader.header().method);
    sheet.add("bits", reader.header().average_bits);
    sheet.add("tokens", reader.header().n_tokens);
    add_shape(sheet, reader.header().shape);
    add_origin(sheet, reader.header().signature, reader.header().provenance);
  } else {
    fail_input("{}: schema {} is not one of ours", path.string(), schema);
  }
  return sheet;
}

}  // namespace

void add_inspect(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect", "What a model folder or one of our files holds, and whether it can be used");
  command
      ->add_option("path", o->path, "Model folder, GGUF file, config.json, org/name, or a .h5 file of ours")
      ->required();
  command->add_option("--tokens", o->tokens, "Tokens of the run to plan for")
      ->check(in_range(int64_t(1), int64_t(1) << 40))
      ->capture_default_str();
  command->add_option("--chunk", o->chunk, "Tokens per window; 0: one window")
      ->check(in_range(int64_t(0), int64_t(1) << 30))
      ->capture_default_str();
  command->add_option("--bits", o->bits, "Of a bit map: only this budget");
  command->add_option("--json", o->json, "The same as JSON; - for standard output");
  command->callback([o, &global] {
    const fs::path path = o->path;
    std::string picture;
    std::optional<Error> refused;
    Sheet sheet;
    std::error_code error;
    if (!fs::is_regular_file(path, error) || is_gguf(path))
      sheet = inspect_model(*o, resolve_model(o->path), refused);
    else if (path.filename() == "config.json")
      sheet = inspect_model(*o, path.parent_path(), refused);
    else
      sheet = inspect_file(*o, path, global.use_color(), picture);
    const std::string json = refused && o->json != "-" ? "" : o->json;  // what is refused leaves no file
    ResultFiles(json, false).write(sheet.json(), sheet.text() + picture);
    if (refused) throw *refused;
  });
}

}  // namespace blockgtq
