#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "activations.h"
#include "base/error.h"
#include "base/file.h"
#include "base/stop.h"
#include "commands.h"
#include "device.h"
#include "eval/pack.h"
#include "eval/place.h"
#include "evaluation.h"
#include "quant/methods.h"
#include "report/table.h"
#include "result_files.h"
#include "store/map_file.h"
#include "store/packed_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string activations, map, bits, method, json, device = "auto";
  OutputOptions output;
};

/// The method asked for, or the map's; Exit::usage for what cannot be a code per key at this budget.
const Method& code_method(const std::string& asked, const BitMap& map, const Budget& budget) {
  const Method* method = find_method(key_methods(), asked.empty() ? map.method : asked);
  if (!method)
    throw Error(Exit::usage, fmt::format("--method: '{}' is unknown: {}", asked, method_list(key_methods())));
  if (method->whole_bits && budget.average_bits != std::floor(budget.average_bits))
    throw Error(Exit::usage, fmt::format("{} takes whole bits: {:g}", method->name, budget.average_bits));
  if (!make_key_quantizer(method->name, map.head(budget, 0, 0))->per_vector())
    throw Error(Exit::usage,
                fmt::format("{} shares scales between tokens: packed keys hold a code each", method->name));
  return *method;
}

}  // namespace

void add_quantize(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("quantize", "Keys of a dump to packed codes and norms, with bytes and distortion");
  command->add_option("activations", o->activations, "ACTS.h5 of dump, or safetensors")->required();
  command->add_option("--map", o->map, "Bit map of calibrate")->required();
  command->add_option("--bits", o->bits, "Which budget, when the map holds several");
  command->add_option("--method", o->method, "In place of the map's: " + method_list(key_methods()));
  command->add_option("--device", o->device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--json", o->json, "Bytes and distortion as JSON; - for standard output");
  add_output_option(*command, o->output, "Packed keys (PACKED.h5)");
  command->callback([o, &global] {
    OutputFile output(o->output.path, o->output.force);
    ResultFiles files(o->json, o->output.force);
    files.include(output);
    const BitMap map = read_map(o->map);
    const Budget& budget = choose_budget(map, o->bits);
    const std::string method = code_method(o->method, map, budget).name;
    const std::unique_ptr<Activations> reader = open_activations(o->activations);
    const ActsHeader& acts = reader->header();
    if (acts.shape.n_layers != map.shape.n_layers || acts.shape.n_kv_heads != map.shape.n_kv_heads ||
        acts.shape.layout.head_dim != map.shape.layout.head_dim)
      fail_input("{}: {} layers x {} KV heads of {}; the map is for {} x {} of {}", o->activations,
                 acts.shape.n_layers, acts.shape.n_kv_heads, acts.shape.layout.head_dim, map.shape.n_layers,
                 map.shape.n_kv_heads, map.shape.layout.head_dim);
    PackedHeader header;
    header.shape = map.shape;
    header.n_tokens = acts.n_tokens;
    header.method = method;
    header.average_bits = budget.average_bits;
    header.seed = map.seed;
    for (int l = 0; l < map.shape.n_layers; ++l)
      for (int h = 0; h < map.shape.n_kv_heads; ++h) {
        const std::vector<uint8_t> bits = key_code_bits(method, map.head(budget, l, h));
        header.bits.insert(header.bits.end(), bits.begin(), bits.end());
      }
    header.map_signature = map.signature;
    header.signature = acts.signature;
    header.provenance = acts.provenance;
    PackedWriter writer(output.temporary(), header);

    const int gpu = gpu_index(o->device, global);
    auto progress = global.make_progress();
    progress->begin("quantize", acts.shape.n_layers);
    Table table({"layer", "K bytes/token", "fp16 bytes/token", "times smaller", "distortion"});
    Json json = {{"schema", "blockgtq.quantize/1"}, {"method", method}, {"bits", budget.average_bits}};
    int64_t clipped = 0;
    const int n_heads = acts.shape.n_kv_heads, dim = acts.shape.layout.head_dim;
    for (int l = 0; l < acts.shape.n_layers; ++l) {
      check_stop();
      const ActsReader::Layer layer = reader->read_layer(l);
      HeadQuantizers quantizers;
      for (int h = 0; h < n_heads; ++h)
        quantizers.push_back(make_key_quantizer(method, map.head(budget, l, h)));
      const bool on_gpu = gpu >= 0 && !quantizers[0]->groups().empty();  // others have no twin there
      std::vector<PackedHead> heads;
      at_layer(l, [&] {
        heads = on_gpu ? cuda_pack_layer(quantizers, layer.k.data(), acts.n_tokens)
                       : pack_layer(quantizers, layer.k.data(), acts.n_tokens);
      });
      double bytes = 0, error = 0, energy = 0;
      for (int h = 0; h < n_heads; ++h) {
        writer.write_head(l, h, heads[h].codes.data(), heads[h].code_bytes);
        bytes += double(heads[h].code_bytes);
        error += heads[h].error;
        energy += heads[h].energy;
        clipped += heads[h].clipped;
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
    warn_clipped(clipped, method, *progress);
    writer.finish();
    files.write(json, table.text());
  });
}

}  // namespace blockgtq
