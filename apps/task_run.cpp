#include "task_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <set>

#include "base/error.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "resume_options.h"
#include "session.h"
#include "tasks/text.h"
#include "written_text.h"

namespace blockgtq {
namespace {

std::string digest(const std::vector<int32_t>& ids) {
  return sha256_hex({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)});
}

class TaskRun {
 public:
  TaskRun(const TaskModel& model, std::vector<TaskSample> samples, const Json& task, const TaskOptions& o,
          const GlobalOptions& global, Progress& progress)
      : model_(model), global_(global), progress_(progress) {
    result_.name = model.name();
    result_.samples = std::move(samples);
    check_samples();
    result_.head = {{"schema", "blockgtq.samples/1"}};
    for (const Json& facts : {model.facts(), task})
      for (const auto& [name, value] : facts.items()) result_.head[name] = value;
    for (const TaskCache& held : model.caches()) {
      result_.cache_names.push_back(held.name);
      result_.specs.push_back(held.spec);
    }
    if (!model.answers().empty())
      file_.emplace(model.answers(), result_.head, resume_mode(o.resume.resume), o.force);
  }

  TaskResult run() {
    for (size_t c = 0; c < model_.caches().size(); ++c) run_cache(c);
    for (TaskSample& sample : result_.samples) sample.prompt.tokens = {};
    model_.finish();
    return std::move(result_);
  }

 private:
  static int64_t longest(const std::vector<Prompt>& prompts) {
    int64_t most = 0;
    for (const Prompt& prompt : prompts) most = std::max(most, int64_t(prompt.tokens.size()) + prompt.most);
    return most;
  }

  void check_samples() const {
    std::set<std::string> ids;
    int64_t longest = 0;
    for (const TaskSample& sample : result_.samples) {
      check(ids.insert(sample.id).second, "run_task: an id comes twice");
      longest = std::max(longest, int64_t(sample.prompt.tokens.size()) + sample.prompt.most);
    }
    if (const std::string text = beyond_positions(model_.model(), longest); !text.empty())
      progress_.warn(text);
  }

  void run_cache(size_t cache) {
    const TaskCache& held = model_.caches()[cache];
    result_.records.emplace_back(result_.samples.size());
    result_.bytes.emplace_back(result_.samples.size());
    std::vector<size_t> missing;
    for (size_t i = 0; i < result_.samples.size(); ++i)
      if (const Json* record = file_ ? file_->find(held.name, result_.samples[i].id) : nullptr)
        keep(cache, i, *record);
      else
        missing.push_back(i);
    if (!missing.empty()) answer(cache, missing);
  }

  void answer(size_t cache, const std::vector<size_t>& missing) {
    const TaskCache& held = model_.caches()[cache];
    std::vector<Prompt> prompts;
    for (const size_t i : missing) prompts.push_back(result_.samples[i].prompt);
    const auto begin = std::chrono::steady_clock::now();
    int64_t prompt_tokens = 0, tokens = 0;
    progress_.begin(fmt::format("{}, {}", model_.name(), held.name), int64_t(missing.size()));
    const std::unique_ptr<Batch> batch = model_.make_batch(cache, longest(prompts));
    const double reading = answer_prompts(prompts, *batch, [&](size_t p, const Answer& answer) {
      const TaskSample& sample = result_.samples[missing[p]];
      const Json record = make_record(held.name, sample, answer);
      if (file_) file_->add(record);
      keep(cache, missing[p], record);
      prompt_tokens += int64_t(sample.prompt.tokens.size());
      tokens += int64_t(answer.ids.size());
      progress_.step(sample.id);
      check_stop();
    });
    progress_.end();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    global_.say(fmt::format(
        "{}, {}: {} answers in {:.1f} s: {} prompt tokens read in {:.1f} s, {} tokens written at {:.2f} per "
        "second, {:.2f} with reading",
        model_.name(), held.name, missing.size(), seconds, prompt_tokens, reading, tokens,
        seconds > reading ? double(tokens) / (seconds - reading) : 0,
        seconds > 0 ? double(tokens) / seconds : 0));
  }

  Json make_record(const std::string& cache, const TaskSample& sample, const Answer& answer) const {
    Json record = {{"cache", cache}, {"id", sample.id}};
    for (const auto& [name, value] : sample.facts.items()) record[name] = value;
    const std::string text = valid_utf8(text_behind(model_.tokenizer(), sample.prompt.tokens, answer.ids));
    record["prompt_tokens"] = sample.prompt.tokens.size();
    record["prompt_sha256"] = digest(sample.prompt.tokens);
    record["ids"] = answer.ids;
    record["ended"] = answer.ended;
    record["text"] = text;
    record["score"] = sample.score(text);
    return record;
  }

  void keep(size_t cache, size_t i, const Json& record) {
    const TaskSample& sample = result_.samples[i];
    const auto bad = [&](const char* what) {
      fail_input("{}: the answer to {} {}", model_.answers().string(), sample.id, what);
    };
    TaskRecord& kept = result_.records[cache][i];
    try {
      if (record.at("prompt_sha256") != digest(sample.prompt.tokens)) bad("was given to another prompt");
      // the score anew: what is right may have been mended in the data
      kept = {sample.score(record.at("text").get<std::string>()), record.at("prompt_tokens").get<int64_t>(),
              int64_t(record.at("ids").size()), record.at("ended").get<bool>()};
    } catch (const Json::exception&) {
      bad("is not as it was written");
    }
    const int64_t n = kept.prompt_tokens + kept.tokens;
    const QuantizedCache& held = model_.caches()[cache].cache;
    result_.bytes[cache][i] = held.key_bytes(n) + held.value_bytes(n);
  }

  const TaskModel& model_;
  const GlobalOptions& global_;
  Progress& progress_;
  TaskResult result_;
  std::optional<SampleFile> file_;
};

}  // namespace

TaskResult run_task(const TaskModel& model, std::vector<TaskSample> samples, const Json& task,
                    const TaskOptions& options, const GlobalOptions& global, Progress& progress) {
  return TaskRun(model, std::move(samples), task, options, global, progress).run();
}

uint64_t seed_of(uint64_t seed, const std::string& id) {
  return std::stoull(sha256_hex(fmt::format("{} {}", seed, id)).substr(0, 16), nullptr, 16);
}

}  // namespace blockgtq
