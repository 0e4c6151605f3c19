#include <set>

#include "base/expect_error.h"
#include "catch.h"
#include "tasks/niah.h"

using namespace blockgtq;

namespace {

const NiahTask& task(const std::string& name) {
  for (const NiahTask& t : niah_tasks())
    if (t.name == name) return t;
  FAIL("no task " + name);
  throw std::logic_error(name);
}

/// Sentences of ten words that are no needle's.
std::vector<std::string> essay() {
  std::string text;
  for (int i = 0; i < 100; ++i)
    text += "one two  three four\nfive six seven eight nine ten" + std::to_string(i) + ". ";
  return essay_words(text);
}

size_t occurrences(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("niah: the tasks hide and ask what RULER's do") {
  const struct {
    const char* name;
    size_t needles, answers;
  } expected[] = {{"single-1", 1, 1},    {"single-2", 1, 1},    {"single-3", 1, 1},   {"multikey-1", 4, 1},
                  {"multikey-2", 41, 1}, {"multikey-3", 41, 1}, {"multivalue", 4, 4}, {"multiquery", 4, 4}};
  REQUIRE(niah_tasks().size() == 8);
  for (const auto& e : expected) {
    INFO(e.name);
    const NiahQuestion q = make_niah(task(e.name), essay(), 0.5, 7, 40);
    CHECK(occurrences(q.input, "One of the special magic ") == e.needles);
    REQUIRE(q.answers.size() == e.answers);
    const std::set<std::string> different(q.answers.begin(), q.answers.end());
    CHECK(different.size() == e.answers);
    for (const std::string& answer : q.answers) {
      CHECK(occurrences(q.input, " is: " + answer + ".") == 1);
      CHECK(q.answer_prefix.find(answer) == std::string::npos);
    }
  }
}

TEST_CASE("niah: one value is asked for in the singular, several in the plural") {
  const NiahQuestion one = make_niah(task("single-1"), {}, 0, 1, 2);
  const std::string begin =
      "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you "
      "about the number afterwards.\nOne of the special magic numbers for ";
  CHECK(one.input.substr(0, begin.size()) == begin);
  const std::string key = one.input.substr(begin.size(), one.input.find(" is: ") - begin.size());
  CHECK(
      one.input ==
      begin + key + " is: " + one.answers[0] +
          ".\nThe grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\nThe "
          "grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\nWhat is "
          "the "
          "special magic number for " +
          key + " mentioned in the provided text?");
  CHECK(one.answer_prefix == " The special magic number for " + key + " mentioned in the provided text is");
  const NiahQuestion four = make_niah(task("multiquery"), essay(), 0, 1, 20);
  CHECK(occurrences(four.input, "What are all the special magic numbers for ") == 1);
  CHECK(occurrences(four.answer_prefix, ", ") == 3);
  CHECK(occurrences(four.answer_prefix, ", and ") == 1);
  CHECK(four.answer_prefix.substr(four.answer_prefix.size() - 22) == " the provided text are");
}

TEST_CASE("niah: the first needle stands at its depth, before a sentence") {
  for (const double depth : {0.0, 0.25, 0.5, 1.0}) {
    INFO(depth);
    const NiahQuestion q = make_niah(task("single-2"), essay(), depth, 3, 400);  // 40 sentences
    const std::string before = q.input.substr(0, q.input.find("One of"));
    CHECK(occurrences(before, " ten") == size_t(40 * depth));
    const NiahQuestion noise = make_niah(task("single-1"), {}, depth, 3, 40);
    CHECK(occurrences(noise.input.substr(0, noise.input.find("One of")), "grass") == size_t(40 * depth));
  }
}

TEST_CASE("niah: values are of their kind and come from the seed") {
  const std::string uuid = make_niah(task("single-3"), essay(), 0, 5, 10).answers[0];
  REQUIRE(uuid.size() == 36);
  CHECK(uuid[14] == '4');
  CHECK(std::string("89ab").find(uuid[19]) != std::string::npos);
  const std::string number = make_niah(task("single-1"), {}, 0, 5, 10).answers[0];
  CHECK(number.size() == 7);
  CHECK(number.find_first_not_of("0123456789") == std::string::npos);
  CHECK(make_niah(task("single-1"), {}, 0, 5, 99).answers[0] == number);  // whatever the size
  CHECK(make_niah(task("single-1"), {}, 0, 6, 10).answers[0] != number);
}

TEST_CASE("niah: the essay begins again where it ends") {
  const NiahQuestion q = make_niah(task("single-2"), essay(), 0, 3, 2500);
  CHECK(occurrences(q.input, "ten99.") == 2);
  CHECK(occurrences(q.input, "ten49.") == 3);
  CHECK(essay_words("").empty());
  CHECK((essay_words(" a\tb\n\nc ") == std::vector<std::string>{"a", "b", "c"}));
}

TEST_CASE("niah: the largest question that fits") {
  for (const size_t most : {700u, 1000u, 5000u, 20000u}) {
    const auto fits = [&](const NiahQuestion& q) { return q.input.size() <= most; };
    const NiahQuestion q = largest_niah(task("single-2"), essay(), 0.5, 3, fits, "--context 1");
    CHECK(q.input.size() <= most);
    CHECK(q.input.size() + 8 > most);  // another word is at most so long
  }
  const std::string what = expect_error(Exit::usage, [] {
    largest_niah(
        task("single-2"), essay(), 0.5, 3, [](const NiahQuestion&) { return false; },
        "--context 64: single-2");
  });
  CHECK(what == "--context 64: single-2 finds no room for a needle, its question and an answer");
}
