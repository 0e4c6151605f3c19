#include "tasks/problems.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "tasks/json_lines.h"
#include "tasks/scores.h"

namespace blockgtq {

std::vector<Problem> read_problems(const fs::path& file, int64_t limit) {
  std::vector<Problem> problems;
  std::set<std::string> ids;
  for_each_line(file, limit, [&](const Json& line, const std::string& where) {
    Problem problem{std::to_string(problems.size() + 1), text_field(line, "problem", where),
                    text_or_number_field(line, "answer", where)};
    if (line.contains("id")) problem.id = text_or_number_field(line, "id", where);
    if (!ids.insert(problem.id).second) fail_input("{}: \"id\" comes twice: {}", where, problem.id);
    problems.push_back(std::move(problem));
  });
  return problems;
}

std::string problem_prompt(const Problem& problem) {
  return problem.text + "\n\nPlease reason step by step, and put your final answer within \\boxed{}.";
}

double problem_score(const Problem& problem, const std::string& text) {
  const std::optional<std::string> answer = boxed(text);
  return answer && same_answer(*answer, problem.answer) ? 1 : 0;
}

}  // namespace blockgtq
