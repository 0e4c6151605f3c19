#include <fmt/format.h>

#include <iterator>
#include <limits>

#include "commands.h"
#include "hf/checkpoint.h"
#include "hf/corpus.h"

namespace blockgtq {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> files;
  bool bos = false;
  int64_t tokens = 0;
};

}  // namespace

void add_tokenize(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("tokenize", "Token ids of a text, one per line");
  command->add_option("-m,--model", o->model, "Model folder, GGUF file or org/name")->required();
  command->add_option("-f,--file", o->files, "UTF-8 text; may be repeated")
      ->required()
      ->allow_extra_args(false);
  command->add_flag("--bos,!--no-bos", o->bos,
                    "Put the model's first-token id before the text (default: no)");
  command->add_option("--tokens", o->tokens, "Only the first N; 0: all")
      ->check(in_range(int64_t(0), int64_t(1) << 40))
      ->capture_default_str();
  command->callback([o, &global] {
    const fs::path folder = resolve_model(o->model);
    CorpusSpec spec;
    spec.files.assign(o->files.begin(), o->files.end());
    spec.n_tokens = o->tokens;
    spec.bos = o->bos;
    const Corpus corpus = read_corpus(spec, folder, std::numeric_limits<int32_t>::max());
    const std::unique_ptr<Progress> progress = global.make_progress();
    for (const std::string& warning : corpus.warnings) progress->warn(warning);
    std::string text;
    for (int32_t id : corpus.ids) text += fmt::format("{}\n", id);
    write_stdout(text);
  });
}

}  // namespace blockgtq
