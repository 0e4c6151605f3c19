#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"

namespace blockgtq {

/// A question with one right answer, as AIME's.
struct Problem {
  std::string id, text, answer;
};
/// The first `limit` (0: all) of a file of JSON lines with "problem" and "answer", a text or a whole number,
/// and where it stands an "id" of the same; else its number among them, from 1, is the id. Exit::input for
/// another file, and for an id that comes twice.
std::vector<Problem> read_problems(const fs::path& file, int64_t limit);

/// What a model is asked: the problem, and that the answer belongs into a box.
std::string problem_prompt(const Problem& problem);
/// 1 where the last box of the text holds the answer, else 0.
double problem_score(const Problem& problem, const std::string& text);

}  // namespace blockgtq
