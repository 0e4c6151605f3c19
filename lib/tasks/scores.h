#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace blockgtq {

// The scores of answers, in [0, 1], as the published scorers compute them. All texts are UTF-8.

/// RULER's string_match_all: the share of the references that occur in the answer, in any case. Control
/// characters at its ends or in it count as line breaks. There must be at least one reference.
double string_match_all(std::string_view answer, std::span<const std::string> references);
/// RULER's string_match_part: 1 where any reference occurs.
double string_match_part(std::string_view answer, std::span<const std::string> references);

/// F1 of the words that two texts share, each counted as often as it occurs in both, after SQuAD's
/// normalization: lower case, no ASCII punctuation, no "a", "an", "the".
double token_f1(std::string_view answer, std::string_view reference);

/// ROUGE-L of the Python package `rouge` 1.0.1. Sentences end at every full stop, words are counted once
/// each, and longest common subsequences are united over all sentences. The package gives up on sentences of
/// about 1000 words, where LongBench counts 0; here they are scored as any other.
double rouge_l(std::string_view answer, std::string_view reference);

/// 1 over the number of classes that the answer names, where the reference is one of them, else 0. A class
/// that is a part of the reference's name does not count. As published, the next class that the answer names
/// after such a class is not examined, so it counts.
double classification(std::string_view answer, std::string_view reference,
                      std::span<const std::string> classes);

/// The share of the numbers in the answer that equal N of the reference "Paragraph N". 0 without numbers.
double retrieval(std::string_view answer, std::string_view reference);

/// The share of the numbers in the answer that equal the reference, digit by digit.
double count(std::string_view answer, std::string_view reference);

/// Similarity of the answer's first line of code (without `, # and //) to the reference, in whole per cent.
/// It is fuzzywuzzy's ratio over Python's difflib, which is what LongBench's requirements install. (With
/// python-Levenshtein installed the package computes another value.)
double code_similarity(std::string_view answer, std::string_view reference);

/// The scores of LongBench's tasks.
enum class Score { token_f1, rouge_l, classification, retrieval, count, code_similarity };
/// The score of this name in data/tasks/longbench.json; none for any other name.
std::optional<Score> find_score(std::string_view name);

/// The best score over all references.
double best_score(Score score, std::string_view answer, std::span<const std::string> references,
                  std::span<const std::string> classes);

/// The first line after leading line breaks: what LongBench scores of answers to few-shot prompts.
std::string first_line(std::string_view answer);

/// The content of the last \boxed{...} or \fbox{...} whose braces close; none where there is none.
std::optional<std::string> boxed(std::string_view answer);
/// Whether two answers are the same: as whole numbers where both are, else as texts. Ignored are spaces, $,
/// LaTeX's thin spaces, a \text{...} around the whole answer, and commas between groups of three digits.
bool same_answer(std::string_view a, std::string_view b);

}  // namespace blockgtq
