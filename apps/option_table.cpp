#include "option_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr const char *kInput = "Model and text", *kCalibration = "Calibration", *kAllocation = "Allocation",
                     *kCache = "Cache", *kMeasuring = "Measuring", *kAnswers = "Answers", *kShape = "Shape",
                     *kComputing = "Computing", *kOutput = "Output", *kAll = kAllCommands, *kHelp = "Help";

struct Facts {
  const char* name;   // the long one without hyphens, or the positional's
  const char* group;  // positionals have one of their own
  const char* value = "";
  const char* command = "";  // only there
};

/// What stands under a command goes before what holds for all.
constexpr Facts kTable[] = {
    {"threads", kAll, "N"},
    {"progress", kAll, "STYLE"},
    {"color", kAll, "WHEN"},
    {"quiet", kAll},
    {"verbose", kAll},
    {"config", kAll, "FILE.toml"},
    {"help", kHelp},
    {"version", kHelp},

    {"model", kInput, "MODEL"},
    {"file", kInput, "FILE"},
    {"ids", kInput, "FILE"},
    {"prompt", kInput, "TEXT"},
    {"prompts", kInput, "FILE"},
    {"bos", kInput},
    {"tokens", kAnswers, "N", "generate"},
    {"tokens", kShape, "N", "diagnostics"},
    {"tokens", kShape, "N", "encode"},
    {"tokens", kInput, "N"},
    {"chunk", kShape, "N", "diagnostics"},
    {"chunk", kShape, "N", "prefill"},
    {"chunk", kInput, "N"},
    {"chat", kInput},
    {"system", kInput, "TEXT"},
    {"part", kInput, "I/N"},
    {"panel", kInput, "PANEL.json"},
    {"activations", kInput, "ACTS.h5"},
    {"data", kInput, "DIR", "longbench"},
    {"data", kInput, "FILE"},
    {"limit", kInput, "N"},
    {"with", kInput, "FILE"},
    {"shape", kInput, "NAME"},

    {"calibration", kCalibration, "FILE"},
    {"calibration-tokens", kCalibration, "N"},
    {"calibrate-from", kCalibration, "N"},
    {"centres", kCalibration, "N"},
    {"choose", kCalibration, "", "calibrate"},
    {"choose-tokens", kCalibration, "N"},
    {"choose-chunk", kCalibration, "N"},
    {"choose-sink", kCalibration, "N"},
    {"choose-recent", kCalibration, "N"},
    {"resamples", kCalibration, "N"},

    {"bits", kCache, "BITS", "attention"},
    {"bits", kCache, "BITS", "prefill"},
    {"bits", kCache, "BITS", "encode"},
    {"bits", kAllocation, "BITS"},
    {"budget-bytes-per-token", kAllocation, "BYTES"},
    {"budget-memory", kAllocation, "SIZE"},
    {"context", kAllocation, "N", "allocate"},
    {"context", kAllocation, "N", "calibrate"},
    {"cost", kAllocation, "WHAT"},
    {"norms", kAllocation, "WHAT"},
    {"allocator", kAllocation, "NAME"},
    {"min-bits", kAllocation, "N"},
    {"max-bits", kAllocation, "N"},
    {"allowed-bits", kAllocation, "LIST"},
    {"max-groups", kAllocation, "N"},
    {"group-blocks", kAllocation, "N"},
    {"share", kAllocation, "WHO"},
    {"equal", kAllocation, "WHO"},

    {"map", kCache, "MAP.h5"},
    {"kv", kCache, "fp16|MAP.h5", "generate"},
    {"kv", kCache, "LIST"},
    {"k-method", kCache, "LIST"},
    {"v-method", kCache, "LIST"},
    {"method", kCache, "NAME"},
    {"pairs", kCache, "LIST"},
    {"bits-k", kCache, "BITS"},
    {"bits-v", kCache, "BITS"},
    {"bits-kv", kCache, "BITS"},
    {"choose", kCache, "K/V"},
    {"code", kCache, "LIST"},
    {"keys", kCache, "KIND"},
    {"codebook", kCache, "NAME"},
    {"sink", kCache, "N"},
    {"recent", kCache, "N"},
    {"pages", kCache},
    {"prefill-chunk", kCache, "N"},

    {"methods", kMeasuring, "LIST"},
    {"metrics", kMeasuring, "LIST"},
    {"theta", kMeasuring, "NAME"},
    {"window", kMeasuring, "N"},
    {"offsets", kMeasuring, "N"},
    {"fail-if", kMeasuring, "GATE"},
    {"against", kMeasuring, "NAME"},
    {"context", kMeasuring, "LIST"},
    {"task", kMeasuring, "LIST"},
    {"score", kMeasuring, "HOW"},
    {"depths", kMeasuring, "LIST"},
    {"trials", kMeasuring, "N"},
    {"questions", kMeasuring, "N"},
    {"needles", kMeasuring, "N"},
    {"samples", kMeasuring, "N"},
    {"batch", kAnswers, "N", "generate"},
    {"batch", kAnswers, "N", "niah"},
    {"batch", kAnswers, "N", "longbench"},
    {"batch", kAnswers, "N", "aime"},
    {"batch", kMeasuring, "LIST"},
    {"memory", kMeasuring, "SIZE"},
    {"bandwidth", kMeasuring, "SIZE"},
    {"steps", kMeasuring, "N"},
    {"repeat", kMeasuring, "N"},
    {"prefill", kMeasuring},
    {"values", kMeasuring},
    {"spread", kMeasuring, "X"},

    {"answer-tokens", kAnswers, "N"},
    {"temperature", kAnswers, "T"},
    {"top-k", kAnswers, "N"},
    {"top-p", kAnswers, "P"},
    {"seed", kAnswers, "N"},
    {"stop", kAnswers, "TEXT"},

    {"layers", kOutput, "N", "export-bitmap"},
    {"layers", kShape, "N"},
    {"heads", kShape, "N"},
    {"kv-heads", kShape, "N"},
    {"head-dim", kShape, "N"},

    {"device", kComputing, "DEVICE"},
    {"dtype", kComputing, "TYPE"},
    {"gpu-memory", kComputing, "SIZE"},
    {"compat", kComputing, "WHAT"},

    {"output", kOutput, "DIR", "panel"},
    {"output", kOutput, "DIR", "niah"},
    {"output", kOutput, "DIR", "longbench"},
    {"output", kOutput, "DIR", "aime"},
    {"output", kOutput, "FILE", "export-bitmap"},
    {"output", kOutput, "FILE", "generate"},
    {"output", kOutput, "STATS.h5", "energy"},
    {"output", kOutput, "STATS.h5", "merge"},
    {"output", kOutput, "ACTS.h5", "dump"},
    {"output", kOutput, "PACKED.h5", "quantize"},
    {"output", kOutput, "MAP.h5", "allocate"},
    {"output", kOutput, "MAP.h5", "calibrate"},
    {"store", kOutput, "TYPE"},
    {"format", kOutput, "NAME"},
    {"engine-type", kOutput, "TYPE"},
    {"as-map", kOutput, "MAP.h5"},
    {"verify", kOutput},
    {"fold", kOutput, "MODEL"},
    {"partial", kOutput},
    {"force", kOutput},
    {"resume", kOutput, "WHEN"},
    {"checkpoint-seconds", kOutput, "SECONDS"},
    {"json", kHelp, "", "blockgtq"},
    {"json", kOutput, "FILE"},
    {"csv", kOutput, "FILE"},
    {"md", kOutput, "FILE"},
    {"html", kOutput, "FILE"},
    {"chart", kOutput, "FILE.svg"},

    // positionals
    {"path", kInput, "PATH"},
    {"a", kInput, "PATH"},
    {"b", kInput, "PATH"},
    {"spec", kInput, "PANEL.json"},
    {"stats", kInput, "STATS.h5"},
    {"evaluations", kInput, "FILE"},
    {"shell", kInput, "SHELL"},
};

/// In the order of the commands, which help keeps.
const std::pair<const char*, std::vector<std::string>> kCommandGroups[] = {
    {"From a model to a bit map",
     {"inspect", "tokenize", "dump", "energy", "merge", "allocate", "calibrate", "quantize"}},
    {"What it does",
     {"eval-logits", "panel", "perplexity", "niah", "longbench", "aime", "correlate", "compare"}},
    {"Using it", {"export-bitmap", "generate"}},
    {"Memory, time, this machine", {"plan", "bench", "doctor", "completion"}}};

std::string name_of(const CLI::Option& option) {
  return option.get_lnames().empty() ? option.get_name() : option.get_lnames().front();
}

const Facts* find_facts(const CLI::App& command, const CLI::Option& option) {
  const std::string name = name_of(option), of = command.get_name();
  const auto found = std::find_if(std::begin(kTable), std::end(kTable), [&](const Facts& f) {
    return name == f.name && (!*f.command || of == f.command);
  });
  return found == std::end(kTable) ? nullptr : &*found;
}

/// The word for its value, without what validators add to it.
std::string value_name(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.substr(0, type.find(':'));
}

}  // namespace

void name_groups(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const Facts* facts = find_facts(app, *option);
    if (!facts) continue;  // in the group of those that have none, which a test finds
    option->group(facts->group);
    if (*facts->value && option->get_expected_min() > 0) option->type_name(facts->value);
  }
  for (CLI::App* command : app.get_subcommands({})) {
    for (const auto& [group, names] : kCommandGroups)
      if (std::find(names.begin(), names.end(), command->get_name()) != names.end()) command->group(group);
    name_groups(*command);
  }
}

const std::vector<std::string>& option_groups() {
  static const std::vector<std::string> groups = {kInput,     kCalibration, kAllocation, kCache,
                                                  kMeasuring, kAnswers,     kShape,      kComputing,
                                                  kOutput,    kAll,         kHelp};
  return groups;
}

bool takes_folder(const CLI::Option& option) {
  return value_name(option) == "DIR";
}

bool takes_path(const CLI::Option& option) {
  const std::string value = value_name(option);
  return value == "MODEL" || value == "PATH" || value == "FILE" || value == "DIR" ||
         value.find('.') != std::string::npos;
}

void refuse_standard_streams(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options([](const CLI::Option* o) { return o->count() > 0; })) {
    const std::vector<std::string> given = option->results();
    if (!takes_path(*option) || std::find(given.begin(), given.end(), "-") == given.end()) continue;
    const std::string value = value_name(*option);
    if (value == "FILE" || value.ends_with(".json") || value.ends_with(".toml")) continue;
    const char* what = value == "MODEL"          ? "a model is a folder, a GGUF file or org/name"
                       : value == "DIR"          ? "the name of a folder is expected"
                       : value == "PATH"         ? "the name of a file or folder is expected"
                       : value.ends_with(".svg") ? "the name of a file is expected"
                                                 : "HDF5 needs a file that it can seek in";
    throw Error(Exit::usage, fmt::format("{}: '-': {}", option->get_name(), what),
                "'-' is standard input or output where a file is text or JSON");
  }
  for (const CLI::App* command : app.get_subcommands()) refuse_standard_streams(*command);
}

}  // namespace blockgtq
