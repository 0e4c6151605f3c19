#include "eval/needle.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "quant/random.h"

namespace blockgtq {
namespace {

using Ids = std::vector<int32_t>;

constexpr std::array<const char*, 32> kWords = {
    "apple", "river", "stone", "cloud", "green", "house", "light", "paper", "table", "water", "wood",
    "fire",  "gold",  "horse", "king",  "lake",  "moon",  "north", "ocean", "plant", "queen", "road",
    "sand",  "tower", "train", "wind",  "bird",  "door",  "field", "glass", "hill",  "island"};
constexpr int kDigits = 7;

/// Uniform in [0, n), for n far below 2^53.
int64_t below(Random& random, int64_t n) {
  return std::min(n - 1, int64_t(random.next_double() * double(n)));
}

/// One sentence about a thing, in tokens.
struct Needle {
  std::string key, number;
  Ids question, answer, end;  // " The magic number for apple-river is", " 1234567", " ."
};

Needle make_needle(const Tokenizer& tokenizer, const std::string& key, Random& random) {
  Needle needle;
  needle.key = key;
  needle.number = std::to_string(1 + below(random, 9));
  while (needle.number.size() < kDigits) needle.number += std::to_string(below(random, 10));
  const std::string question = " The magic number for " + key + " is",
                    answer = question + " " + needle.number;
  needle.question = tokenizer.encode(question);
  const Ids answered = tokenizer.encode(answer), whole = tokenizer.encode(answer + " .");
  const auto n_question = std::ptrdiff_t(needle.question.size()),
             n_answered = std::ptrdiff_t(answered.size());
  if (answered.size() <= needle.question.size() || whole.size() <= answered.size() ||
      !std::equal(needle.question.begin(), needle.question.end(), answered.begin()) ||
      !std::equal(answered.begin(), answered.end(), whole.begin()))
    fail_input("the tokenizer does not keep apart the parts of \"{} .\"", answer);
  needle.answer.assign(answered.begin() + n_question, answered.end());
  needle.end.assign(whole.begin() + n_answered, whole.end());
  return needle;
}

void append(Ids& to, std::span<const int32_t> ids) {
  to.insert(to.end(), ids.begin(), ids.end());
}

/// Distinct pairs of two different words.
std::vector<std::string> draw_keys(int n, Random& random) {
  std::vector<std::string> keys;
  while (int(keys.size()) < n) {
    const char* first = kWords[size_t(below(random, kWords.size()))];
    const char* second = kWords[size_t(below(random, kWords.size()))];
    std::string key = std::string(first) + "-" + second;
    if (first != second && std::find(keys.begin(), keys.end(), key) == keys.end())
      keys.push_back(std::move(key));
  }
  return keys;
}

NeedleQuestion make_question(const Tokenizer& tokenizer, std::span<const int32_t> haystack,
                             const NeedleSpec& spec, Random& random) {
  std::vector<Needle> needles;
  for (const std::string& key : draw_keys(spec.needles, random))
    needles.push_back(make_needle(tokenizer, key, random));
  int64_t fixed = (spec.bos ? 1 : 0) + int64_t(needles[0].question.size() + needles[0].answer.size());
  for (const Needle& n : needles) fixed += int64_t(n.question.size() + n.answer.size() + n.end.size());
  const int64_t filler = spec.context - fixed;
  if (filler < 1 || filler > int64_t(haystack.size()))
    fail_input("a question of {} tokens needs {} of the haystack: it has {}", spec.context, filler,
               haystack.size());

  const auto hay =
      haystack.subspan(size_t(below(random, int64_t(haystack.size()) - filler + 1)), size_t(filler));
  std::vector<int64_t> at;  // (needles) places in the filler; the first needle is asked for
  for (size_t i = 0; i < needles.size(); ++i) at.push_back(below(random, filler + 1));
  std::vector<size_t> order(needles.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return at[a] < at[b]; });

  NeedleQuestion q;
  q.key = needles[0].key;
  q.number = needles[0].number;
  q.depth = double(at[0]) / double(filler);
  if (spec.bos) q.tokens.push_back(*spec.bos);
  int64_t done = 0;
  for (size_t i : order) {
    append(q.tokens, hay.subspan(size_t(done), size_t(at[i] - done)));
    done = at[i];
    append(q.tokens, needles[i].question);
    append(q.tokens, needles[i].answer);
    append(q.tokens, needles[i].end);
  }
  append(q.tokens, hay.subspan(size_t(done)));
  append(q.tokens, needles[0].question);
  q.answer = int64_t(q.tokens.size());
  q.n_answer = int64_t(needles[0].answer.size());
  append(q.tokens, needles[0].answer);
  check(int64_t(q.tokens.size()) == spec.context, "make_question: length");
  return q;
}

}  // namespace

std::vector<NeedleQuestion> make_needles(const Tokenizer& tokenizer, std::span<const int32_t> haystack,
                                         const NeedleSpec& spec) {
  check(spec.needles >= 1 && spec.needles <= 100, "make_needles: number of needles");
  Random random(spec.seed);
  std::vector<NeedleQuestion> questions;
  for (int64_t i = 0; i < spec.questions; ++i)
    questions.push_back(make_question(tokenizer, haystack, spec, random));
  return questions;
}

void Retrieval::add(int64_t n_answer, int64_t n_right) {
  ++questions;
  exact += n_right == n_answer;
  tokens += n_answer;
  right += n_right;
}

double Retrieval::accuracy_error() const {
  const double p = accuracy();
  return std::sqrt(p * (1 - p) / double(questions));
}

}  // namespace blockgtq
