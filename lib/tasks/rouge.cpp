#include <algorithm>
#include <set>
#include <vector>

#include "tasks/scores.h"
#include "tasks/text.h"

namespace blockgtq {
namespace {

using Word = std::u32string;
using Sentence = std::vector<Word>;

/// Sentences as lists of words. A sentence of white space alone has one empty word.
std::vector<Sentence> sentences_of(std::string_view text) {
  std::vector<Sentence> all;
  for (const Word& part : parts(code_points(text), U'.')) {
    if (part.empty()) continue;
    all.push_back(words(part));
    if (all.back().empty()) all.back().emplace_back();
  }
  return all;
}

size_t different_words(const std::vector<Sentence>& sentences) {
  std::set<Word> all;
  for (const Sentence& s : sentences) all.insert(s.begin(), s.end());
  return all.size();
}

/// Adds the words of the longest common subsequence; where there are several, of the one that the package
/// finds.
void add_common(const Sentence& x, const Sentence& y, std::set<Word>& common) {
  const size_t width = y.size() + 1;
  std::vector<uint32_t> table((x.size() + 1) *
                              width);  // length of the common subsequence of x[0, i), y[0, j)
  for (size_t i = 1; i <= x.size(); ++i)
    for (size_t j = 1; j <= y.size(); ++j)
      table[i * width + j] = x[i - 1] == y[j - 1]
                                 ? table[(i - 1) * width + j - 1] + 1
                                 : std::max(table[(i - 1) * width + j], table[i * width + j - 1]);
  for (size_t i = x.size(), j = y.size(); i > 0 && j > 0;) {
    if (x[i - 1] == y[j - 1]) {
      common.insert(x[i - 1]);
      --i;
      --j;
    } else if (table[(i - 1) * width + j] > table[i * width + j - 1]) {
      --i;
    } else {
      --j;
    }
  }
}

}  // namespace

double rouge_l(std::string_view answer, std::string_view reference) {
  const std::vector<Sentence> a = sentences_of(answer), b = sentences_of(reference);
  if (a.empty() || b.empty()) return 0;
  std::set<Word> common;
  for (const Sentence& right : b)
    for (const Sentence& said : a) add_common(right, said, common);
  const auto n = double(common.size());
  const double recall = n / double(different_words(b)), precision = n / double(different_words(a));
  return 2.0 * ((precision * recall) / (precision + recall + 1e-8));
}

}  // namespace blockgtq
