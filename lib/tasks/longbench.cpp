#include "tasks/longbench.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "tasks/json_lines.h"

namespace blockgtq {

extern const char* const kLongBenchData;

namespace {

/// The file is ours, so an error in it is a defect.
std::vector<LongBenchTask> parse_tasks() {
  std::vector<LongBenchTask> tasks;
  const Json data = parse_json(kLongBenchData, "longbench.json");
  for (const Json& json : data.at("tasks")) {
    const auto flag = [&](const char* name, bool otherwise) { return json.value(name, otherwise); };
    const std::optional<Score> score = find_score(json.at("score").get<std::string>());
    check(score.has_value(), "longbench.json: an unknown score");
    tasks.push_back({json.at("name"), json.at("prompt"), json.at("tokens"), *score, flag("chat", true),
                     flag("first_line", false), flag("one_line", false)});
  }
  return tasks;
}

}  // namespace

const std::vector<LongBenchTask>& longbench_tasks() {
  static const std::vector<LongBenchTask> tasks = parse_tasks();
  return tasks;
}

std::vector<LongBenchSample> read_longbench(const fs::path& file, int64_t limit) {
  std::vector<LongBenchSample> samples;
  std::set<std::string> ids;
  for_each_line(file, limit, [&](const Json& line, const std::string& where) {
    LongBenchSample sample{text_field(line, "_id", where),
                           text_field(line, "context", where),
                           text_field(line, "input", where),
                           texts_field(line, "answers", where),
                           {}};
    if (sample.answers.empty()) fail_input("{}: \"answers\" is empty", where);
    if (const auto classes = line.find("all_classes"); classes == line.end() || !classes->is_null())
      sample.classes = texts_field(line, "all_classes", where);
    if (!ids.insert(sample.id).second) fail_input("{}: \"_id\" comes twice: {}", where, sample.id);
    samples.push_back(std::move(sample));
  });
  return samples;
}

std::string longbench_prompt(const LongBenchTask& task, const LongBenchSample& sample) {
  std::string text;
  for (size_t at = 0; at < task.prompt.size();) {
    const std::string_view rest = std::string_view(task.prompt).substr(at);
    const bool context = rest.starts_with("{context}"), input = rest.starts_with("{input}");
    if (context) text += sample.context;
    if (input) text += sample.input;
    if (!context && !input) text += rest[0];
    at += context ? 9 : input ? 7 : 1;
  }
  return text;
}

double longbench_score(const LongBenchTask& task, const LongBenchSample& sample, const std::string& answer) {
  return best_score(task.score, task.first_line ? first_line(answer) : answer, sample.answers,
                    sample.classes);
}

}  // namespace blockgtq
