#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace blockgtq {

// What an answer is worth, in [0, 1], as the published scorers count it. All texts are UTF-8.

/// RULER's string_match_all: the share of the references that stand in the answer, whatever their case;
/// control characters at its ends or in it count as line breaks. At least one reference.
double string_match_all(std::string_view answer, std::span<const std::string> references);
/// RULER's string_match_part: 1 where any of them does.
double string_match_part(std::string_view answer, std::span<const std::string> references);

/// F1 of the words that two texts share, each as often as it stands in both, after SQuAD's normalization:
/// lower case, no ASCII punctuation, no "a", "an", "the".
double token_f1(std::string_view answer, std::string_view reference);

/// ROUGE-L of the Python package `rouge` 1.0.1: sentences end at every full stop, words are counted once
/// each, longest common subsequences are united over all sentences. The package gives up on sentences of
/// about 1000 words (LongBench counts 0 then); here they are scored as any other.
double rouge_l(std::string_view answer, std::string_view reference);

/// 1 over the number of classes named in the answer where the reference is one of them, else 0. A class that
/// is a part of the reference's name does not count, but, as published, one behind such a class is passed
/// over.
double classification(std::string_view answer, std::string_view reference,
                      std::span<const std::string> classes);

/// The share of the numbers in the answer that are the reference's N of "Paragraph N". 0 where it has none.
double retrieval(std::string_view answer, std::string_view reference);

/// The share of the numbers in the answer that are the reference, digit by digit.
double count(std::string_view answer, std::string_view reference);

/// Similarity of the answer's first line of code (without `, # and //) to the reference, in whole per cent:
/// fuzzywuzzy's ratio with Python's difflib beneath it, which is what LongBench's requirements install.
/// (With python-Levenshtein beside it the package counts otherwise.)
double code_similarity(std::string_view answer, std::string_view reference);

enum class Score { token_f1, rouge_l, classification, retrieval, count, code_similarity };
/// The score of a name as data/tasks/longbench.json has it; none for another.
std::optional<Score> find_score(std::string_view name);

/// The best over all references.
double best_score(Score score, std::string_view answer, std::span<const std::string> references,
                  std::span<const std::string> classes);

/// The first line behind line breaks: what LongBench scores of answers to few-shot prompts.
std::string first_line(std::string_view answer);

/// What stands in the last \boxed{...} or \fbox{...} whose braces close; none where there is none.
std::optional<std::string> boxed(std::string_view answer);
/// Whether two answers are one: as whole numbers where both are, else as texts. Spaces, $, thin spaces of
/// LaTeX and a \text{...} around all of it do not count, nor do commas between groups of three digits.
bool same_answer(std::string_view a, std::string_view b);

}  // namespace blockgtq
