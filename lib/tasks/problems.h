#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"

namespace blockgtq {

/// A question with one right answer, as in AIME.
struct Problem {
  std::string id, text, answer;
};
/// The first `limit` problems (0: all) of a file of JSON lines. A line has "problem" and "answer", each a
/// text or a whole number, and may have an "id"; without one the id is the line's number among the problems,
/// from 1. Exit::input for any other file, and for an id that occurs twice.
std::vector<Problem> read_problems(const fs::path& file, int64_t limit);

/// The prompt: the problem, and the request to put the answer into a box.
std::string problem_prompt(const Problem& problem);
/// 1 where the last box of the model's text holds the answer, else 0.
double problem_score(const Problem& problem, const std::string& text);

}  // namespace blockgtq
