#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/stop.h"
#include "commands.h"
#include "evaluation.h"
#include "quant/methods.h"
#include "report/table.h"
#include "store/acts_file.h"
#include "store/map_file.h"
#include "store/packed_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string activations, map, bits, json;
  OutputOptions output;
};

/// One KV head of one layer, encoded; its distortion |k - k_hat|^2 / |k|^2 as sums.
struct PackedHead {
  std::vector<uint8_t> codes;  // (T, code_bytes)
  size_t code_bytes = 0;
  double error = 0, energy = 0;
};

PackedHead pack_head(const Quantizer& quantizer, const std::vector<float>& k, int head, int n_kv_heads,
                     int64_t n_tokens) {
  const int dim = quantizer.dim();
  PackedHead packed;
  packed.code_bytes = quantizer.code_bytes();
  packed.codes.resize(n_tokens * packed.code_bytes);
  std::vector<float> keys(n_tokens * dim), restored(n_tokens * dim);  // (T, D)
  for (int64_t t = 0; t < n_tokens; ++t)
    std::copy_n(k.data() + (t * n_kv_heads + head) * dim, dim, keys.data() + t * dim);
  quantizer.encode(keys.data(), n_tokens, packed.codes.data());
  quantizer.decode(packed.codes.data(), n_tokens, restored.data());
  for (size_t i = 0; i < keys.size(); ++i) {
    const double error = double(keys[i]) - restored[i];
    packed.error += error * error;
    packed.energy += double(keys[i]) * keys[i];
  }
  return packed;
}

}  // namespace

void add_quantize(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("quantize", "Keys of a dump to packed codes and norms, with bytes and distortion");
  command->add_option("activations", o->activations, "ACTS.h5 of dump")->required();
  command->add_option("--map", o->map, "Bit map of calibrate")->required();
  command->add_option("--bits", o->bits, "Which budget, when the map holds several");
  command->add_option("--json", o->json, "Bytes and distortion as JSON; - for standard output");
  add_output_option(*command, o->output, "Packed keys (PACKED.h5)");
  command->callback([o, &global] {
    OutputFile output(o->output.path, o->output.force);
    const BitMap map = read_map(o->map);
    const Budget& budget = choose_budget(map, o->bits);
    const ActsReader reader(o->activations);
    const ActsHeader& acts = reader.header();
    if (acts.shape.n_layers != map.shape.n_layers || acts.shape.n_kv_heads != map.shape.n_kv_heads ||
        acts.shape.layout.head_dim != map.shape.layout.head_dim)
      fail_input("{}: {} layers x {} KV heads of {}; the map is for {} x {} of {}", o->activations,
                 acts.shape.n_layers, acts.shape.n_kv_heads, acts.shape.layout.head_dim, map.shape.n_layers,
                 map.shape.n_kv_heads, map.shape.layout.head_dim);
    PackedHeader header;
    header.shape = map.shape;
    header.n_tokens = acts.n_tokens;
    header.method = map.method;
    header.average_bits = budget.average_bits;
    header.seed = map.seed;
    header.bits = budget.bits;
    header.map_signature = map.signature;
    header.signature = acts.signature;
    header.provenance = acts.provenance;
    PackedWriter writer(output.temporary(), header);

    auto progress = global.make_progress();
    progress->begin("quantize", acts.shape.n_layers);
    Table table({"layer", "K bytes/token", "fp16 bytes/token", "times smaller", "distortion"});
    Json json = {{"schema", "blockgtq.quantize/1"}, {"method", map.method}, {"bits", budget.average_bits}};
    const int n_heads = acts.shape.n_kv_heads, dim = acts.shape.layout.head_dim;
    for (int l = 0; l < acts.shape.n_layers; ++l) {
      check_stop();
      const ActsReader::Layer layer = reader.read_layer(l);
      std::vector<PackedHead> heads(n_heads);
      parallel_for(n_heads, [&](size_t h) {
        auto quantizer = make_quantizer(map.method, map.shape.layout, budget.average_bits,
                                        map.head_bits(budget, l, int(h)), map.seed);
        heads[h] = pack_head(*quantizer, layer.k, int(h), n_heads, acts.n_tokens);
      });
      double bytes = 0, error = 0, energy = 0;
      for (int h = 0; h < n_heads; ++h) {
        writer.write_head(l, h, heads[h].codes.data(), heads[h].code_bytes);
        bytes += double(heads[h].code_bytes);
        error += heads[h].error;
        energy += heads[h].energy;
      }
      const double fp16 = 2.0 * n_heads * dim, distortion = energy > 0 ? error / energy : 0;
      table.row({std::to_string(l), fmt::format("{:g}", bytes), fmt::format("{:g}", fp16),
                 fmt::format("{:.2f}", fp16 / bytes), fmt::format("{:.5f}", distortion)});
      json["layers"].push_back({{"layer", l},
                                {"bytes_per_token", bytes},
                                {"fp16_bytes_per_token", fp16},
                                {"distortion", distortion}});
      progress->step(fmt::format("layer {}", l));
    }
    progress->end();
    writer.finish();
    output.commit();
    if (o->json == "-")
      write_json(json, "-", false);
    else
      write_stdout(table.text());
    if (!o->json.empty() && o->json != "-") write_json(json, o->json, o->output.force);
  });
}

}  // namespace blockgtq
