#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace blockgtq {

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

/// Answers that RULER allows to have at most so many tokens.
inline constexpr int64_t kNiahAnswerTokens = 128;

struct NiahQuestion {
  std::string input;                 // needles in their haystack, and the question
  std::string answer_prefix;         // how the answer begins, behind a chat template too
  std::vector<std::string> answers;  // all of them are asked for
};

/// The words of an essay, between white space.
std::vector<std::string> essay_words(std::string_view text);

/// A haystack of so many units: lines of noise, words of the essay (again from its beginning where it ends),
/// lines of needles. The first needle that is asked for stands at `depth` in [0, 1], before that share of the
/// units' sentences; keys, values and the other places are drawn from the seed, the same for every size.
NiahQuestion make_niah(const NiahTask& task, std::span<const std::string> essay, double depth, uint64_t seed,
                       int64_t units);

/// The one with the most units that `fits`. Exit::usage where not even a single one does; `what` begins the
/// message.
NiahQuestion largest_niah(const NiahTask& task, std::span<const std::string> essay, double depth,
                          uint64_t seed, const std::function<bool(const NiahQuestion&)>& fits,
                          const std::string& what);

}  // namespace blockgtq
