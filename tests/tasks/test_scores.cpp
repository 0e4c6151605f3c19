// Every score on cases that were counted by hand.
#include "catch.h"
#include "tasks/scores.h"

using namespace blockgtq;

namespace {

using Texts = std::vector<std::string>;

/// What the package's 1e-8 in the denominator leaves of the F1 of precision p and recall r.
double rouge_f(double p, double r) {
  return 2.0 * ((p * r) / (p + r + 1e-8));
}

}  // namespace

TEST_CASE("string_match_all is the share of references that stand in the answer") {
  const auto score = [](const std::string& answer, const Texts& references) {
    return string_match_all(answer, references);
  };
  CHECK(score("The number is 1234567.", {"1234567"}) == 1);
  CHECK(score("The number is 1234568.", {"1234567"}) == 0);
  CHECK(score("12345678", {"1234567"}) == 1);  // a part of a longer number counts
  CHECK(score("1, 2 and 3", {"1", "2", "3", "4"}) == 0.75);
  CHECK(score("", {"1"}) == 0);
  CHECK(score("", {""}) == 1);
  CHECK(score("QUICK-Fox", {"quick-fox"}) == 1);
  CHECK(score("quick-fox", {"QUICK-FOX"}) == 1);
  CHECK(score("STRASSE", {"stra\u00DFe"}) == 0);          // lower case, not case folding
  CHECK(score("\u00C9T\u00C9", {"\u00E9t\u00E9"}) == 1);  // E with acute
  CHECK(score("a\tb", {"a\nb"}) == 1);                    // control characters are line breaks
  CHECK(score(" x ", {" x"}) == 0);  // the answer's ends are cut, the reference's are not
  CHECK(score("7 7", {"7", "7"}) == 1);
}

TEST_CASE("string_match_part asks for one reference only") {
  CHECK(string_match_part("1, 2", Texts{"3", "2"}) == 1);
  CHECK(string_match_part("1, 2", Texts{"3", "4"}) == 0);
  CHECK(string_match_part("", Texts{"3"}) == 0);
}

TEST_CASE("token_f1 counts shared words, as often as both texts have them") {
  CHECK(token_f1("apple river", "apple river") == 1);
  CHECK(token_f1("apple", "river") == 0);
  CHECK(token_f1("", "") == 0);
  CHECK(token_f1("", "apple") == 0);
  CHECK(token_f1("apple", "") == 0);
  CHECK(token_f1("the", "a an the") == 0);                      // nothing but articles
  CHECK(token_f1("The Apple!", "an apple") == 1);               // articles, case and punctuation go
  CHECK(token_f1("theory", "the ory") == 0);                    // no article inside of a word
  CHECK(token_f1("a-b c", "ab c") == 1);                        // a hyphen goes without a space in its place
  CHECK(token_f1("a.", "b") == 0);                              // what is left is an article
  CHECK(token_f1("one two", "one two three four") == 2.0 / 3);  // precision 1, recall 1/2
  CHECK(token_f1("one one one", "one") == 0.5);                 // precision 1/3, recall 1
  CHECK(token_f1("one one two", "one one one") == Approx(2.0 / 3));              // two of three, both ways
  CHECK(token_f1("one\u00A0two\u2003three", "one two three") == 1);              // Unicode white space
  CHECK(token_f1("\u039F\u0394\u039F\u03A3", "\u03BF\u03B4\u03BF\u03C2") == 1);  // a final sigma
  CHECK(token_f1("\u0130", "i\u0307") == 1);                                     // dotted capital I
  CHECK(token_f1("\u2018x\u2019", "x") == 0);     // quotes that are not ASCII stay
  CHECK(token_f1("x\xFFy", "x\uFFFDy") == 1);     // a byte that is not UTF-8
  CHECK(token_f1("a\u0301 b", "\u0301 b") == 1);  // an a before a mark stands alone
}

TEST_CASE("rouge_l: sentences end at full stops, words count once") {
  CHECK(rouge_l("", "x") == 0);
  CHECK(rouge_l("x", "") == 0);
  CHECK(rouge_l("...", "x") == 0);
  CHECK(rouge_l("a b c", "a b c") == rouge_f(1, 1));
  CHECK(rouge_l("a b", "c d") == 0);
  CHECK(rouge_l("A b", "a b") == rouge_f(0.5, 0.5));  // case counts, articles do
  CHECK(rouge_l("a b c d", "a c") == rouge_f(0.5, 1));
  CHECK(rouge_l("c a", "a c") == rouge_f(0.5, 0.5));      // one of two in order
  CHECK(rouge_l("a a a", "a") == rouge_f(1, 1));          // repeated words are one
  CHECK(rouge_l("a. b", "b. a") == rouge_f(1, 1));        // united over sentences
  CHECK(rouge_l("a b.c d", "a b c d") == rouge_f(1, 1));  // of the reference's one sentence: a b, then c d
  CHECK(rouge_l("  a   b\n", "a b") == rouge_f(1, 1));
  CHECK(rouge_l("a. ", "a") == rouge_f(0.5, 1));       // white space behind a full stop is an empty word
  CHECK(rouge_l("3.5", "3") == rouge_f(0.5, 1));       // a decimal point is a full stop
  CHECK(rouge_l("a, b", "a b") == rouge_f(0.5, 0.5));  // punctuation stays
}

TEST_CASE("classification counts the classes that an answer names") {
  const Texts classes = {"Human", "Human individual", "Location", "City"};
  CHECK(classification("Location", "Location", classes) == 1);
  CHECK(classification("It is Location or City", "Location", classes) == 0.5);
  CHECK(classification("City", "Location", classes) == 0);
  CHECK(classification("", "Location", classes) == 0);
  CHECK(classification("location", "Location", classes) == 0);                  // case counts
  CHECK(classification("Human individual", "Human individual", classes) == 1);  // "Human" is a part of it
  CHECK(classification("Human individual", "Human", classes) == 0.5);           // but not the other way
  CHECK(classification("Planet", "Planet", classes) == 0);                      // no class at all
  // "ab" goes, "b" behind it is passed over and stays: one of "b", "abc"
  CHECK(classification("abc", "abc", Texts{"ab", "b", "abc"}) == 0.5);
  CHECK(classification("abc", "abc", Texts{"ab", "abc", "b"}) == 1);
}

TEST_CASE("retrieval and count: the share of right numbers in the answer") {
  CHECK(retrieval("Paragraph 7", "Paragraph 7") == 1);
  CHECK(retrieval("7", "Paragraph 7") == 1);
  CHECK(retrieval("Paragraph 7 or 8", "Paragraph 7") == 0.5);
  CHECK(retrieval("07", "Paragraph 7") == 0);  // digits are compared, not values
  CHECK(retrieval("77", "Paragraph 7") == 0);
  CHECK(retrieval("none", "Paragraph 7") == 0);
  CHECK(retrieval("", "Paragraph 7") == 0);
  CHECK(retrieval("7", "paragraph 7") == 0);  // a reference of another form
  CHECK(retrieval("12", "Paragraph x, Paragraph 12") == 1);
  CHECK(count("5", "5") == 1);
  CHECK(count("There are 5 of 20", "5") == 0.5);
  CHECK(count("5 5 6", "5") == 2.0 / 3);
  CHECK(count("five", "5") == 0);
  CHECK(count("", "5") == 0);
  CHECK(count("5.0", "5") == 0.5);       // two numbers
  CHECK(count("5 \u0665", "5") == 0.5);  // ARABIC-INDIC DIGIT FIVE is a number as well
}

TEST_CASE("code_similarity: the first line that is code, difflib's ratio in per cent") {
  CHECK(code_similarity("return x", "return x") == 1);
  CHECK(code_similarity("", "") == 1);
  CHECK(code_similarity("", "x") == 0);
  CHECK(code_similarity("x", "") == 0);
  CHECK(code_similarity("\n\nreturn x\nmore", "return x") == 1);
  CHECK(code_similarity("```python\nreturn x\n```", "return x") == 1);
  CHECK(code_similarity("# why\n// why\nreturn x", "return x") == 1);
  CHECK(code_similarity("# only a comment", "return x") == 0);
  CHECK(code_similarity("abcd", "bcda") == 0.75);          // bcd: 2 * 3 / 8
  CHECK(code_similarity("ab", "ba") == 0.5);               // one of two, not both
  CHECK(code_similarity("abc", "abd") == 0.67);            // 66.67 per cent
  CHECK(code_similarity("a", "abcdefg") == 0.25);          // 2 / 8
  CHECK(code_similarity("abcdefgh", "abcdefgX") == 0.88);  // 87.5 per cent: a half goes to the even neighbour
  CHECK(code_similarity("aaaaaX", "Y") == 0);
  CHECK(code_similarity("abXXXX", "abYYYYYYYY") == 0.25);     // 2 * 2 / 16
  CHECK(code_similarity("\u00E9t\u00E9", "\u00E9t") == 0.8);  // characters, not bytes
  CHECK(code_similarity("  return x", "return x") == 0.89);   // indentation counts: 2 * 8 / 18
  // Of a reference of 200 characters, what makes up over one per cent begins no match: here nothing else
  // does.
  const std::string many(100, 'a');
  CHECK(code_similarity("X" + many, "Y" + many + many.substr(1)) == 0);
  CHECK(code_similarity("X" + many, "Y" + many + many.substr(2)) == 0.67);  // 200 / 300
  CHECK(code_similarity(many, many + many) == 0.67);  // but it continues the empty match at both beginnings
}

TEST_CASE("the best of several references counts, 0 where there is none") {
  CHECK(best_score(Score::token_f1, "one two", Texts{"x", "one", "one two"}, {}) == 1);
  CHECK(best_score(Score::token_f1, "one two", Texts{"x", "one"}, {}) == 2.0 / 3);
  CHECK(best_score(Score::token_f1, "one two", {}, {}) == 0);
  CHECK(best_score(Score::rouge_l, "a", Texts{"b", "a"}, {}) == rouge_f(1, 1));
  CHECK(best_score(Score::classification, "A or B", Texts{"B"}, Texts{"A", "B"}) == 0.5);
  CHECK(best_score(Score::retrieval, "3", Texts{"Paragraph 2", "Paragraph 3"}, {}) == 1);
  CHECK(best_score(Score::count, "3", Texts{"2", "3"}, {}) == 1);
  CHECK(best_score(Score::code_similarity, "ab", Texts{"xy", "ab"}, {}) == 1);
  CHECK(find_score("rouge_l") == Score::rouge_l);
  CHECK_FALSE(find_score("rouge"));
}

TEST_CASE("first_line: what is behind the first line of a few-shot answer is not scored") {
  CHECK(first_line("Human\nQuestion: who") == "Human");
  CHECK(first_line("\n\nHuman\n") == "Human");
  CHECK(first_line("") == "");
  CHECK(first_line("\n\n") == "");
  CHECK(first_line(" \nHuman") == " ");
}

TEST_CASE("boxed: the last box whose braces close") {
  CHECK(boxed("so \\boxed{42}.") == "42");
  CHECK(boxed("\\boxed{1} and \\boxed{2}") == "2");
  CHECK(boxed("\\boxed{1} and \\boxed{2") == "1");
  CHECK(boxed("\\boxed{\\frac{1}{2}}") == "\\frac{1}{2}");
  CHECK(boxed("\\boxed{\\{1\\}}") == "\\{1\\}");
  CHECK(boxed("\\fbox{7}") == "7");
  CHECK(boxed("\\boxed {7}") == "7");
  CHECK(boxed("\\boxed{\\boxed{3}}") == "3");  // the inner one comes last
  CHECK(boxed("\\boxed{}") == "");
  CHECK_FALSE(boxed("the answer is 42"));
  CHECK_FALSE(boxed("\\boxed 42"));
  CHECK_FALSE(boxed(""));
}

TEST_CASE("same_answer: whole numbers by value, the rest as texts") {
  CHECK(same_answer("42", "42"));
  CHECK(same_answer("042", "42"));
  CHECK(same_answer(" 42 ", "$42$"));
  CHECK(same_answer("42.", "42"));
  CHECK(same_answer("1,234", "1234"));
  CHECK(same_answer("1{,}234", "1234"));
  CHECK(same_answer("1\\,234", "1234"));
  CHECK(same_answer("\\text{42}", "42"));
  CHECK(same_answer("+7", "7"));
  CHECK(same_answer("-0", "0"));
  CHECK(same_answer("000", "0"));
  CHECK(same_answer("\\frac{1}{2}", "\\frac{1}{2}"));
  CHECK_FALSE(same_answer("42", "43"));
  CHECK_FALSE(same_answer("-42", "42"));
  CHECK_FALSE(same_answer("1,2", "12"));
  CHECK_FALSE(same_answer("", "0"));
  CHECK_FALSE(same_answer("42 apples", "42"));
}
