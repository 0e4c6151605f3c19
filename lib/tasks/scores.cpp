#include "tasks/scores.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "tasks/sequence_match.h"
#include "tasks/text.h"

namespace blockgtq {
namespace {

using Word = std::u32string;

/// An answer as RULER prepares it, in lower case.
Word ruler_text(std::string_view answer) {
  Word text = code_points(answer);
  for (char32_t& c : text)
    if (c < 0x20) c = U'\n';
  while (!text.empty() && is_space(text.back())) text.pop_back();
  text.erase(0, size_t(std::find_if_not(text.begin(), text.end(), is_space) - text.begin()));
  return lower(text);
}

double matches(std::string_view answer, std::span<const std::string> references) {
  const Word text = ruler_text(answer);
  return double(std::count_if(references.begin(), references.end(), [&](const std::string& reference) {
    return text.find(lower(code_points(reference))) != Word::npos;
  }));
}

/// The words of a text in SQuAD's normalization.
std::vector<Word> normalized_words(std::string_view text) {
  Word plain;
  for (const char32_t c : lower(code_points(text)))
    if (!is_punctuation(c)) plain += c;
  Word without;  // articles
  for (size_t i = 0; i < plain.size();) {
    size_t end = i;
    while (end < plain.size() && is_word(plain[end])) ++end;
    const Word word = plain.substr(i, end - i);
    without += word == U"a" || word == U"an" || word == U"the" ? U" " : word;
    if (end < plain.size()) without += plain[end];
    i = end + 1;
  }
  return words(without);
}

double share_of(const std::vector<Word>& found, const Word& right) {
  return found.empty() ? 0 : double(std::count(found.begin(), found.end(), right)) / double(found.size());
}

Word without_line_breaks_before(Word text) {
  text.erase(0, text.find_first_not_of(U'\n'));  // npos erases all of it
  return text;
}

}  // namespace

double string_match_all(std::string_view answer, std::span<const std::string> references) {
  check(!references.empty(), "string_match_all: no references");
  return matches(answer, references) / double(references.size());
}

double string_match_part(std::string_view answer, std::span<const std::string> references) {
  return matches(answer, references) > 0 ? 1 : 0;
}

double token_f1(std::string_view answer, std::string_view reference) {
  const std::vector<Word> a = normalized_words(answer), b = normalized_words(reference);
  std::map<Word, int64_t> left;  // of the reference's words
  for (const Word& word : b) ++left[word];
  int64_t same = 0;
  for (const Word& word : a)
    if (const auto found = left.find(word); found != left.end() && found->second-- > 0) ++same;
  if (same == 0) return 0;
  const double precision = double(same) / double(a.size()), recall = double(same) / double(b.size());
  return 2 * precision * recall / (precision + recall);
}

double classification(std::string_view answer, std::string_view reference,
                      std::span<const std::string> classes) {
  std::vector<std::string_view> named;
  for (const std::string& name : classes)
    if (answer.find(name) != std::string_view::npos) named.push_back(name);
  for (size_t i = 0; i < named.size(); ++i)  // as published, the class after an erased one is skipped
    if (named[i] != reference && reference.find(named[i]) != std::string_view::npos)
      named.erase(std::find(named.begin(), named.end(), named[i]));
  return std::find(named.begin(), named.end(), reference) == named.end() ? 0 : 1.0 / double(named.size());
}

double retrieval(std::string_view answer, std::string_view reference) {
  const Word text = code_points(reference), mark = U"Paragraph ";
  for (size_t at = text.find(mark); at != Word::npos; at = text.find(mark, at + 1)) {
    const size_t digits = at + mark.size();
    if (digits < text.size() && is_digit(text[digits]))
      return share_of(numbers(code_points(answer)), numbers(text.substr(digits)).at(0));
  }
  return 0;
}

double count(std::string_view answer, std::string_view reference) {
  return share_of(numbers(code_points(answer)), code_points(reference));
}

double code_similarity(std::string_view answer, std::string_view reference) {
  Word line;
  for (const Word& l : parts(without_line_breaks_before(code_points(answer)), U'\n'))
    if (l.find(U'`') == Word::npos && l.find(U'#') == Word::npos && l.find(U"//") == Word::npos) {
      line = l;
      break;
    }
  const Word right = code_points(reference);
  if (line == right) return 1;
  if (line.empty() || right.empty()) return 0;
  return std::nearbyint(100 * match_ratio(line, right)) / 100;  // Python rounds halves to even as well
}

std::optional<Score> find_score(std::string_view name) {
  static const std::pair<std::string_view, Score> names[] = {{"token_f1", Score::token_f1},
                                                             {"rouge_l", Score::rouge_l},
                                                             {"classification", Score::classification},
                                                             {"retrieval", Score::retrieval},
                                                             {"count", Score::count},
                                                             {"code_similarity", Score::code_similarity}};
  for (const auto& [known, score] : names)
    if (name == known) return score;
  return std::nullopt;
}

double best_score(Score score, std::string_view answer, std::span<const std::string> references,
                  std::span<const std::string> classes) {
  const auto one = [&](std::string_view reference) {
    switch (score) {
      case Score::token_f1:
        return token_f1(answer, reference);
      case Score::rouge_l:
        return rouge_l(answer, reference);
      case Score::classification:
        return classification(answer, reference, classes);
      case Score::retrieval:
        return retrieval(answer, reference);
      case Score::count:
        return count(answer, reference);
      case Score::code_similarity:
        return code_similarity(answer, reference);
    }
    throw std::logic_error("best_score: unknown score");
  };
  double best = 0;
  for (const std::string& reference : references) best = std::max(best, one(reference));
  return best;
}

std::string first_line(std::string_view answer) {
  answer.remove_prefix(std::min(answer.find_first_not_of('\n'), answer.size()));
  return std::string(answer.substr(0, answer.find('\n')));
}

}  // namespace blockgtq
