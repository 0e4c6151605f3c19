#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "commands.h"
#include "evaluation.h"
#include "generate_list.h"
#include "hf/corpus.h"
#include "hf/text_source.h"
#include "result_files.h"
#include "sampling_options.h"
#include "served_model.h"
#include "session.h"
#include "written_text.h"

namespace blockgtq {
namespace {

struct Options {
  ServeOptions serve;
  WriteOptions write;
  ListOptions list;
  std::string prompt, json;

  const RunOptions& run() const { return serve.run; }
};

void check_options(const Options& o) {
  if (o.prompt.empty() + o.run().files.empty() + o.run().ids.empty() + o.list.prompts.empty() != 3)
    throw Error(Exit::usage, "a prompt is expected: one of -p, -f, --ids and --prompts");
  if (std::find(o.write.stop.begin(), o.write.stop.end(), "") != o.write.stop.end())
    throw Error(Exit::usage, "--stop: an empty text is in every text");
  if (o.serve.chat && !o.run().ids.empty())
    throw Error(Exit::usage, "--chat: a text is expected: -p, -f or --prompts");
  if (o.list.prompts.empty() && !o.list.output.empty())
    throw Error(Exit::usage, "-o holds the texts of --prompts; --json FILE holds one");
  if (!o.list.prompts.empty() && !o.json.empty())
    throw Error(Exit::usage, "--json holds one text; -o FILE holds those of --prompts");
}

/// One text, to standard output as it comes.
class Generate {
 public:
  Generate(const Options& o, const GlobalOptions& global)
      : o_(o), global_(global), progress_(global.make_progress()), files_(o.json, o.list.force) {}

  void run() {
    served_.emplace(o_.serve, global_, *progress_);
    const std::vector<int32_t> prompt = read_prompt();
    const int64_t context = int64_t(prompt.size()) + o_.write.tokens;
    if (const std::string text = beyond_positions(served_->model(), context); !text.empty())
      progress_->warn(text);
    const std::unique_ptr<Sequence> sequence = served_->make_sequence(context);
    const auto begin = std::chrono::steady_clock::now();
    const std::span<const float> logits = sequence->append(prompt);
    const double prompt_seconds = seconds_since(begin);
    WrittenText text(served_->tokenizer(), prompt, {o_.write.tokens, o_.write.stop, served_->last_tokens()});
    write_tokens(text, logits, *sequence);
    report(text, *sequence, prompt_seconds, seconds_since(begin) - prompt_seconds);
  }

 private:
  static double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  std::vector<int32_t> read_prompt() {
    if (o_.run().ids.empty()) {
      std::string text = o_.prompt;
      for (const std::string& file : o_.run().files)
        text += TextSource(file, kMaxCorpusBytes - text.size()).text();
      return served_->tokens_of(text);
    }
    CorpusSpec spec = o_.run().corpus();
    spec.n_tokens = 0;
    const std::vector<int32_t> ids =
        read_corpus(spec, served_->folder(), served_->model().config().vocab).ids;
    served_->require_prompt(ids);
    return ids;
  }

  void write_tokens(WrittenText& text, std::span<const float> logits, Sequence& sequence) const {
    Random random(o_.write.seed);
    const bool printed = o_.json != "-";
    while (text.add(sample(o_.write.sampling, logits, random))) {
      if (printed) write_stdout(text.fresh());
      logits = sequence.append({&text.ids().back(), 1});
    }
    if (printed) write_stdout(text.fresh() + "\n");
  }

  void report(const WrittenText& text, const Sequence& sequence, double prompt_seconds, double seconds) {
    const int64_t bytes = sequence.cache_bytes();
    const std::string cache = served_->cache();
    if (sequence.clipped() > 0)
      progress_->warn(fmt::format("{} fp16 norms were cut to 65504", sequence.clipped()));
    Json json = {{"schema", "blockgtq.generate/1"},
                 {"model", served_->folder().string()},
                 {"cache", cache},
                 {"device", served_->on_gpu() ? "cuda" : "cpu"},
                 {"prefill_chunk", served_->prefill_chunk() > 0 ? Json(served_->prefill_chunk()) : Json()}};
    json.update(text.json());
    json["prompt_seconds"] = prompt_seconds;
    json["seconds"] = seconds;
    json["cache_bytes"] = bytes;
    const size_t n = text.ids().size();
    global_.say(
        fmt::format("{} prompt tokens in {:.1f} s, {} tokens at {:.2f} per second; cache: {}, {:.2f} MB",
                    json["prompt_tokens"].get<int64_t>(), prompt_seconds, n,
                    seconds > 0 ? double(n) / seconds : 0, cache, 1e-6 * double(bytes)));
    files_.write(json, "");
  }

  const Options& o_;
  const GlobalOptions& global_;
  std::unique_ptr<Progress> progress_;
  ResultFiles files_;
  std::optional<ServedModel> served_;
};

void add_write_options(CLI::App& command, WriteOptions& o) {
  command.add_option("-n,--tokens", o.tokens, "Tokens to write at most")
      ->check(in_range(int64_t(1), int64_t(1) << 30))
      ->capture_default_str();
  add_sampling_options(command, o.sampling);
  command.add_option("--seed", o.seed, "Of the draws")->capture_default_str();
  command.add_option("--stop", o.stop, "Stop before this text; may be repeated")->allow_extra_args(false);
}

}  // namespace

void add_generate(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "generate", "Continue texts, with keys and values exact or as a quantized cache gives them back");
  command->add_option("-p,--prompt", o->prompt, "The text to continue");
  command->add_option("-f,--file", o->serve.run.files, "The same from a UTF-8 file; - for standard input")
      ->allow_extra_args(false);
  command->add_option("--ids", o->serve.run.ids, "The same as token ids");
  CLI::Option* prompts = command->add_option(
      "--prompts", o->list.prompts,
      "Many of them, a JSON object per line: \"prompt\" (a text) or \"ids\", and in place of the options' "
      "\"n\", \"seed\", \"stop\"; \"id\" names the result, a JSON line as well");
  command->add_option("--batch", o->list.batch, "Texts of --prompts at once, as far as their pages have room")
      ->check(in_range(1, kMostTexts))
      ->capture_default_str()
      ->needs(prompts);
  command->add_option("-o,--output", o->list.output, "Results of --prompts; default, and -: standard output");
  add_serve_options(*command, o->serve);
  add_write_options(*command, o->write);
  command->add_option("--json", o->json, "Result of one text as JSON; - for standard output");
  command->add_flag("--force", o->list.force, "Replace an existing output");
  command->callback([o, &global] {
    check_options(*o);
    if (o->list.prompts.empty())
      Generate(*o, global).run();
    else
      generate_list(o->list, o->write, o->serve, global);
  });
}

}  // namespace blockgtq
