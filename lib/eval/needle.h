#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hf/tokenizer.h"

namespace blockgtq {

/// What questions to make. The sentence "The magic number for apple-river is 1234567 ." stands somewhere in a
/// text. The text ends with the same sentence, and the model is to predict its digits.
struct NeedleSpec {
  int64_t context = 512;  // tokens of every question: bos, haystack, needles and answer
  int64_t questions = 100;
  int needles = 1;  // such sentences in the haystack, for different things, of which one is asked for
  uint64_t seed = 42;
  std::optional<int32_t> bos{};  // the first token of every question
};

/// One question as the model reads it.
struct NeedleQuestion {
  std::vector<int32_t> tokens;       // (context), the answer at the end
  int64_t answer = 0, n_answer = 0;  // tokens [answer, answer + n_answer) are to be predicted
  double depth = 0;                  // of the needle in the haystack: 0 at its beginning, 1 at its end
  std::string key, number;           // "apple-river", "1234567"
};

/// Makes spec.questions questions. Things, numbers, depths and pieces of the haystack (T) are drawn from
/// quant/random.h, so they are the same on every machine and for every cache. Exit::input where the haystack
/// is shorter than a question needs, or the tokenizer merges the words with the number.
std::vector<NeedleQuestion> make_needles(const Tokenizer& tokenizer, std::span<const int32_t> haystack,
                                         const NeedleSpec& spec);

/// How many questions were answered. An answer is exact where every token of the number was the likeliest
/// one, which is when greedy decoding writes it.
struct Retrieval {
  int64_t questions = 0, exact = 0;
  int64_t tokens = 0, right = 0;  // of the answers; each is predicted behind the right tokens before it

  /// Adds one question: the tokens of its answer, and how many of them were right.
  void add(int64_t n_answer, int64_t n_right);
  double accuracy() const { return double(exact) / double(questions); }
  double accuracy_error() const;  // binomial standard error
  double token_accuracy() const { return double(right) / double(tokens); }
};

}  // namespace blockgtq
