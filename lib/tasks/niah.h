#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace blockgtq {

/// What surrounds the needles, and what keys and values of needles are.
enum class Haystack { noise, essay, needles };
enum class NeedleKind { numbers, words, uuids };

/// A needle-in-a-haystack task as RULER defines it (NVIDIA/RULER, scripts/synthetic.yaml, Apache-2.0).
struct NiahTask {
  std::string name;  // RULER's without "niah_"
  Haystack haystack;
  NeedleKind keys, values;
  int n_keys, n_values, n_queries;  // keys hidden, values of each, keys asked for
};

/// single-1 to -3, multikey-1 to -3, multivalue, multiquery.
const std::vector<NiahTask>& niah_tasks();

/// The most tokens of an answer, as in RULER.
inline constexpr int64_t kNiahAnswerTokens = 128;

/// One question as the model is asked.
struct NiahQuestion {
  std::string input;                 // needles in their haystack, and the question
  std::string answer_prefix;         // how the answer begins, behind a chat template too
  std::vector<std::string> answers;  // the answer should hold all of them
};

/// The words of an essay, between white space.
std::vector<std::string> essay_words(std::string_view text);

/// Makes a question. The haystack has `units` units: lines of noise, words of the essay (from its beginning
/// again where it ends), or lines of needles. The first needle that is asked for stands at `depth` in [0, 1]
/// of the units' sentences. Keys, values and the other places are drawn from the seed, the same for every
/// size.
NiahQuestion make_niah(const NiahTask& task, std::span<const std::string> essay, double depth, uint64_t seed,
                       int64_t units);

/// The question with the most units that `fits`. Exit::usage, with a message that begins with `what`, where
/// not even one unit fits.
NiahQuestion largest_niah(const NiahTask& task, std::span<const std::string> essay, double depth,
                          uint64_t seed, const std::function<bool(const NiahQuestion&)>& fits,
                          const std::string& what);

}  // namespace blockgtq
