#include <fmt/format.h>

#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "commands.h"
#include "evaluation.h"
#include "model/fold.h"
#include "model/weights.h"
#include "report/engine_export.h"
#include "report/map_export.h"
#include "report/map_read.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string map, bits, format, fold, as_map;
  EngineOptions engine;
  bool verify = false;
  OutputOptions output;
};

/// A form of ours, and its reader; pictures have none.
struct Form {
  const char* name;
  std::string (*write)(const BitMap&, const Budget&);
  std::vector<uint8_t> (*read)(const std::string&, const BitMap&, const std::string&);
};

constexpr Form kForms[] = {{"csv", map_csv, read_map_csv},
                           {"json", map_json, read_map_json},
                           {"npy", map_npy, read_map_npy},
                           {"png", map_png, nullptr},
                           {"safetensors", map_safetensors, read_map_safetensors},
                           {"svg", map_svg, nullptr}};

const Form* find_form(const std::string& name) {
  for (const Form& form : kForms)
    if (form.name == name) return &form;
  return nullptr;
}

std::string format_names() {
  std::string names;
  for (const Form& form : kForms) names += fmt::format("{}{}", names.empty() ? "" : ", ", form.name);
  for (const EngineFormat& format : engine_formats()) names += fmt::format(", {}", format.name);
  return names;
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

/// What -o ends with where --format does not say.
std::string format_of(const Options& o) {
  if (!o.format.empty()) return o.format;
  const std::string ending = fs::path(o.output.path).extension().string();
  return ending.empty() ? "" : ending.substr(1);
}

/// The bytes of the file, read back where that is asked for.
std::string export_form(const Form& form, const Options& o, const BitMap& map, const Budget& budget) {
  if (!o.as_map.empty() || !o.engine.type.empty())
    throw Error(Exit::usage,
                fmt::format("--as-map and --engine-type are for formats of engines, not for {}", form.name));
  if (o.verify && !form.read)
    throw Error(Exit::usage, fmt::format("--verify: nothing reads a {}", form.name));
  const std::string bytes = form.write(map, budget);
  check(!o.verify || form.read(bytes, map, o.output.path) == budget.bits,
        "an export reads back as another map");
  return bytes;
}

std::string export_engine(const EngineFormat& format, const Options& o, const BitMap& map,
                          const Budget& budget, const GlobalOptions& global,
                          std::vector<std::unique_ptr<OutputFile>>& files) {
  if (!o.engine.type.empty() && !*format.types)
    throw Error(Exit::usage, fmt::format("--engine-type: {} has none to choose", format.name));
  const EngineExport out = format.write(map, budget, o.engine);
  if (o.verify)
    check(format.read(out.bytes, map, budget, o.output.path) == out.bits, "an engine would read other bits");
  if (!o.as_map.empty()) {
    const BitMap projected = projected_map(map, budget, out.bits, format.name);
    files.push_back(std::make_unique<OutputFile>(o.as_map, o.output.force));
    write_map(files.back()->temporary(), projected);
  }
  global.say(fmt::format("{}: {}", format.name, describe(projection_loss(map, budget, out.bits))));
  return out.bytes;
}

void export_map(const Options& o, const GlobalOptions& global) {
  const std::string format = format_of(o);
  const Form* form = find_form(format);
  const EngineFormat* engine = find_engine_format(format);
  if (!form && !engine)
    throw Error(Exit::usage, fmt::format("--format: '{}' is none of {}", format, format_names()));
  std::vector<std::unique_ptr<OutputFile>> files;
  if (o.output.path != "-") files.push_back(std::make_unique<OutputFile>(o.output.path, o.output.force));
  const BitMap map = read_map(o.map);
  const Budget& budget = choose_budget(map, o.bits);
  const std::string bytes =
      form ? export_form(*form, o, map, budget) : export_engine(*engine, o, map, budget, global, files);
  if (o.output.path != "-") files[0]->write(bytes);
  std::vector<OutputFile*> all;
  for (const auto& file : files) all.push_back(file.get());
  commit_all(all);
  if (o.output.path == "-") write_stdout(bytes);
  if (o.verify) global.say("verified: read back as its reader does");
}

}  // namespace

void add_export_bitmap(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  o->engine.version = BLOCKGTQ_VERSION;
  CLI::App* command = app.add_subcommand(
      "export-bitmap", "A bit map for other programs: as data, as a picture, for an engine, or in weights");
  command->add_option("map", o->map, "MAP.h5 of calibrate or allocate")->required();
  CLI::Option* bits = command->add_option("--bits", o->bits, "Which budget, when the map holds several");
  CLI::Option* format =
      command->add_option("--format", o->format, format_names() + "; default: the output's ending");
  std::string types = "For engines: which type of their caches; default: by the map's average.";
  for (const EngineFormat& engine : engine_formats())
    if (*engine.types) types += fmt::format(" {}: {}.", engine.name, engine.types);
  CLI::Option* type = command->add_option("--engine-type", o->engine.type, types);
  CLI::Option* layers =
      command
          ->add_option(
              "--layers", o->engine.layers,
              "For llama-ctk, vllm-skip-layers and modelopt: how many layers get more bits than the rest")
          ->check(in_range(0, 1024))
          ->capture_default_str();
  CLI::Option* as_map = command->add_option(
      "--as-map", o->as_map, "For engines: also what the engine can express of the map, as a map: MAP.h5");
  CLI::Option* verify =
      command->add_flag("--verify", o->verify, "Read the output as its reader does, and compare");
  command
      ->add_option("--fold", o->fold,
                   "The map's model: write it again, with the balance of keys and the basis of values in its "
                   "weights and the same output")
      ->excludes(bits)
      ->excludes(format)
      ->excludes(type)
      ->excludes(layers)
      ->excludes(as_map)
      ->excludes(verify);
  add_output_option(*command, o->output, "File to write, - for standard output; with --fold a folder");
  command->callback([o, &global] { o->fold.empty() ? export_map(*o, global) : export_folded(*o, global); });
}

}  // namespace blockgtq
