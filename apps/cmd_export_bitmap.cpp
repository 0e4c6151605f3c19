#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "commands.h"
#include "evaluation.h"
#include "model/fold.h"
#include "model/weights.h"
#include "report/map_export.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string map, bits, format, fold;
  OutputOptions output;
};

using Exporter = std::string (*)(const BitMap&, const Budget&);

const std::map<std::string, Exporter>& exporters() {
  static const std::map<std::string, Exporter> all = {{"json", map_json}, {"csv", map_csv},
                                                      {"npy", map_npy},   {"safetensors", map_safetensors},
                                                      {"png", map_png},   {"svg", map_svg}};
  return all;
}

void export_folded(const Options& o, const GlobalOptions& global) {
  if (o.output.path == "-") throw Error(Exit::usage, "--fold writes a folder: -o DIR");
  const BitMap map = read_map(o.map);
  const Checkpoint model(resolve_model(o.fold));
  const std::unique_ptr<Progress> progress = global.make_progress();
  for (const std::string& remark : check_weights(model)) progress->warn(remark);
  const Fold fold(model, map);
  write_folded(model, fold, o.output.path, o.output.force);
  global.say(fmt::format("{}: folded: balance of keys{}", o.output.path,
                         fold.values() ? ", basis of values" : "; the map holds no basis of values"));
}

}  // namespace

void add_export_bitmap(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "export-bitmap", "A bit map as json, csv, npy, safetensors, png or svg, or in weights");
  command->add_option("map", o->map, "MAP.h5 of calibrate or allocate")->required();
  CLI::Option* bits = command->add_option("--bits", o->bits, "Which budget, when the map holds several");
  CLI::Option* format = command->add_option(
      "--format", o->format, "json, csv, npy, safetensors, png or svg; default: the output's ending");
  command
      ->add_option("--fold", o->fold,
                   "The map's model: write it again, with the balance of keys and the basis of values in its "
                   "weights and the same output")
      ->excludes(bits)
      ->excludes(format);
  add_output_option(*command, o->output, "File to write, - for standard output; with --fold a folder");
  command->callback([o, &global] {
    if (!o->fold.empty()) return export_folded(*o, global);
    std::string format = o->format;
    if (format.empty()) {
      format = fs::path(o->output.path).extension().string();
      if (!format.empty()) format.erase(0, 1);
    }
    const auto exporter = exporters().find(format);
    if (exporter == exporters().end())
      throw Error(Exit::usage,
                  fmt::format("--format: '{}' is none of csv, json, npy, png, safetensors, svg", format));
    std::optional<OutputFile> file;
    if (o->output.path != "-") file.emplace(o->output.path, o->output.force);
    const BitMap map = read_map(o->map);
    const std::string bytes = exporter->second(map, choose_budget(map, o->bits));
    if (!file) return write_stdout(bytes);
    file->write(bytes);
    file->commit();
  });
}

}  // namespace blockgtq
