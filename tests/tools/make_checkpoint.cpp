// Writes a Hugging Face folder of random bf16 weights in the shape a config.json asks for.
//
//   make_checkpoint --config FILE --out DIR [--tokenizer tokenizer.json] [--layers N] [--seed 1] [--scale
//   0.02]
//                   [--shard-bytes 4GB] [--threads N]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>

#include "base/error.h"
#include "base/json.h"
#include "tools/random_checkpoint.h"

namespace {

using namespace blockgtq;

/// The same model with its first n layers alone.
void set_layers(Json& config, int n) {
  for (const char* key : {"num_hidden_layers", "num_layers"})
    if (config.contains(key)) config[key] = n;
  if (config.contains("layer_types") && config["layer_types"].is_array()) {
    Json& types = config["layer_types"];
    while (types.size() > size_t(n)) types.erase(types.size() - 1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Random checkpoints for tests");
  std::string config, out, tokenizer;
  int layers = 0, n_threads = 0;
  test::RandomCheckpoint spec;
  app.add_option("--config", config, "config.json")->required();
  app.add_option("--out", out, "folder to write")->required();
  app.add_option("--tokenizer", tokenizer, "tokenizer.json to copy");
  app.add_option("--layers", layers, "instead of the config's")->check(CLI::Range(1, kMaxLayers));
  app.add_option("--seed", spec.seed);
  app.add_option("--scale", spec.scale, "standard deviation of the weights");
  app.add_option("--shard-bytes", spec.shard_bytes)->transform(CLI::AsSizeValue(false));
  app.add_option("--threads", n_threads);
  CLI11_PARSE(app, argc, argv);
  try {
    set_threads(n_threads);
    spec.config = read_json(config, kMaxConfigBytes);
    if (layers > 0) set_layers(spec.config, layers);
    const auto start = std::chrono::steady_clock::now();
    test::write_random_checkpoint(spec, out);
    if (!tokenizer.empty())
      fs::copy_file(tokenizer, fs::path(out) / "tokenizer.json", fs::copy_options::overwrite_existing);
    const Checkpoint written(out);
    fmt::print("{}: {:.2f} GB in {} files, {:.0f} s\n", out, double(written.weight_bytes()) / 1e9,
               written.n_shards(),
               std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  } catch (const std::exception& e) {
    fmt::print(stderr, "error: {}\n", e.what());
    return 1;
  }
}
