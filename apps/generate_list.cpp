#include "generate_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "evaluation.h"
#include "prompt_list.h"
#include "serve/write_texts.h"
#include "session.h"

namespace blockgtq {
namespace {

/// A prompt in tokens.
struct Prompt {
  std::string where;
  Json id;
  std::vector<int32_t> tokens;
  TextEnd end;
  uint64_t seed = 0;

  int64_t length() const { return int64_t(tokens.size()) + end.tokens; }
};

/// What `check` refuses is said to be there.
template <class Check>
void check_at(const std::string& where, const Check& check) {
  try {
    check();
  } catch (const Error& e) {
    throw Error(e.code, where + ": " + e.what(), e.hint);
  }
}

class GenerateList {
 public:
  GenerateList(const ListOptions& list, const WriteOptions& write, const ServeOptions& serve,
               const GlobalOptions& global)
      : o_(write), chat_(serve.chat), global_(global), progress_(global.make_progress()) {
    if (!list.output.empty() && list.output != "-") output_.emplace(list.output, list.force);
    const std::vector<ListedPrompt> listed = read_prompts(list.prompts);
    served_.emplace(serve, global, *progress_);
    int64_t longest = 0;
    for (const ListedPrompt& each : listed) {
      prompts_.push_back(prompt_of(each));
      longest = std::max(longest, prompts_.back().length());
    }
    if (const std::string text = beyond_positions(served_->model(), longest); !text.empty())
      progress_->warn(text);
    running_.resize(prompts_.size());
    lines_.resize(prompts_.size());
    batch_ = served_->make_batch(int(std::min(size_t(list.batch), prompts_.size())), longest);
    for (const Prompt& prompt : prompts_) check_at(prompt.where, [&] { batch_->require(prompt.length()); });
  }

  void run() {
    const auto begin = std::chrono::steady_clock::now();
    progress_->begin("texts", int64_t(prompts_.size()));
    std::vector<BatchText> texts;
    for (const Prompt& prompt : prompts_) texts.push_back({prompt.tokens, prompt.length()});
    write_texts(
        *batch_, texts, [&](size_t i, int slot) { return next(i, slot); }, [&](size_t i) { write_line(i); });
    progress_->end();
    if (output_) output_->commit();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    warn_clipped(clipped_, "the texts", *progress_);
    global_.say(fmt::format(
        "{} texts, at most {} at once: {} prompt tokens and {} new ones in {:.1f} s; cache: {}",
        prompts_.size(), batch_->slots(), prompt_tokens_, new_tokens_, seconds, served_->cache()));
  }

 private:
  /// A text under way.
  struct Running {
    WrittenText text;
    Random random;
  };

  Prompt prompt_of(const ListedPrompt& listed) {
    Prompt prompt{listed.where, listed.id, listed.ids, {}, listed.seed.value_or(o_.seed)};
    prompt.end = {listed.tokens.value_or(o_.tokens), listed.stop.value_or(o_.stop), served_->last_tokens()};
    check_at(listed.where, [&] {
      if (listed.text)
        prompt.tokens = served_->tokens_of(*listed.text);
      else if (chat_)
        throw Error(Exit::input, "\"ids\" with --chat: a text is expected");
      else
        served_->require_prompt(prompt.tokens);
    });
    return prompt;
  }

  /// The token behind the last one of a text, or nothing where it has ended.
  std::optional<int32_t> next(size_t i, int slot) {
    const Prompt& prompt = prompts_[i];
    std::optional<Running>& text = running_[i];
    if (!text) {
      prompt_tokens_ += int64_t(prompt.tokens.size());
      text.emplace(
          Running{WrittenText(served_->tokenizer(), prompt.tokens, prompt.end), Random(prompt.seed)});
    }
    const int32_t token = next_token(*batch_, slot, o_.sampling, text->random);
    if (text->text.add(token)) return token;
    Json line = {{"id", prompt.id}};
    line.update(text->text.json());
    lines_[i] = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    new_tokens_ += int64_t(text->text.ids().size());
    clipped_ += batch_->clipped(slot);
    progress_->step(fmt::format("{} tokens", text->text.ids().size()));
    text.reset();
    return std::nullopt;
  }

  void write_line(size_t i) {
    output_ ? output_->write(lines_[i]) : write_stdout(lines_[i]);
    lines_[i].clear();
  }

  const WriteOptions& o_;
  const bool chat_;
  const GlobalOptions& global_;
  const std::unique_ptr<Progress> progress_;
  std::optional<OutputFile> output_;
  std::optional<ServedModel> served_;
  std::vector<Prompt> prompts_;
  std::unique_ptr<Batch> batch_;
  std::vector<std::optional<Running>> running_;  // (prompts), while a text is under way
  std::vector<std::string> lines_;               // (prompts), of texts that have ended until they are out
  int64_t prompt_tokens_ = 0, new_tokens_ = 0, clipped_ = 0;
};

}  // namespace

void generate_list(const ListOptions& list, const WriteOptions& write, const ServeOptions& serve,
                   const GlobalOptions& global) {
  GenerateList(list, write, serve, global).run();
}

}  // namespace blockgtq
