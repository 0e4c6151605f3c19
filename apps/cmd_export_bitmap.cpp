#include <fmt/format.h>

#include <map>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "commands.h"
#include "evaluation.h"
#include "report/map_export.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string map, bits, format;
  OutputOptions output;
};

using Exporter = std::string (*)(const BitMap&, const Budget&);

const std::map<std::string, Exporter>& exporters() {
  static const std::map<std::string, Exporter> all = {{"json", map_json}, {"csv", map_csv},
                                                      {"npy", map_npy},   {"safetensors", map_safetensors},
                                                      {"png", map_png},   {"svg", map_svg}};
  return all;
}

}  // namespace

void add_export_bitmap(CLI::App& app, const GlobalOptions&) {
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("export-bitmap", "A bit map as json, csv, npy, safetensors, png or svg");
  command->add_option("map", o->map, "MAP.h5 of calibrate or allocate")->required();
  command->add_option("--bits", o->bits, "Which budget, when the map holds several");
  command->add_option("--format", o->format,
                      "json, csv, npy, safetensors, png or svg; default: the output's ending");
  add_output_option(*command, o->output, "File to write; - for standard output");
  command->callback([o] {
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
