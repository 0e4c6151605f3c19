#include <numeric>
#include <vector>

#include "base/expect_error.h"
#include "catch.h"
#include "eval/needle.h"

using namespace blockgtq;

namespace {

Tokenizer tokenizer() {
  return Tokenizer(BLOCKGTQ_SOURCE_DIR "/data/models/tiny-llama/tokenizer.json");
}

/// Ids that no sentence holds, each once: what is hay, and from where.
std::vector<int32_t> hay(int n) {
  std::vector<int32_t> ids(size_t(n), 0);
  std::iota(ids.begin(), ids.end(), 100000);
  return ids;
}

}  // namespace

TEST_CASE("a question holds its needle, and ends with the answer") {
  const Tokenizer words = tokenizer();
  const NeedleSpec spec{.context = 200, .questions = 20, .needles = 3, .seed = 5};
  const std::vector<NeedleQuestion> questions = make_needles(words, hay(1000), spec);
  REQUIRE(questions.size() == 20);
  for (const NeedleQuestion& q : questions) {
    REQUIRE(q.tokens.size() == 200);
    CHECK(q.answer + q.n_answer == 200);
    std::vector<int32_t> said, straw;
    for (int32_t id : q.tokens) (id < 100000 ? said : straw).push_back(id);
    for (size_t i = 1; i < straw.size(); ++i) CHECK(straw[i] == straw[i - 1] + 1);  // the text is not torn
    const std::string text = words.decode(said), line = " The magic number for " + q.key + " is " + q.number;
    CHECK(text.find(line + " .") != std::string::npos);
    CHECK(text.size() >= line.size());
    CHECK(text.substr(text.size() - line.size()) == line);
    CHECK(words.decode({q.tokens.end() - q.n_answer, q.tokens.end()}) == " " + q.number);
    CHECK(q.depth >= 0);
    CHECK(q.depth <= 1);
    size_t sentences = 0;
    for (size_t at = text.find("magic"); at != std::string::npos; at = text.find("magic", at + 1))
      ++sentences;
    CHECK(sentences == 4);
  }
  CHECK(questions[0].number != questions[1].number);

  const std::vector<NeedleQuestion> again = make_needles(words, hay(1000), spec);
  CHECK((again[7].tokens == questions[7].tokens));
  CHECK((make_needles(words, hay(1000), {200, 20, 3, 6})[0].tokens != questions[0].tokens));
  CHECK_THROWS_AS(make_needles(words, hay(50), spec), Error);
}

TEST_CASE("a question begins with the first token where one is given") {
  const Tokenizer words = tokenizer();
  NeedleSpec spec{.context = 100, .questions = 3, .seed = 5};
  spec.bos = 7;
  for (const NeedleQuestion& q : make_needles(words, hay(1000), spec)) {
    REQUIRE(q.tokens.size() == 100);
    CHECK(q.tokens[0] == 7);
    CHECK(q.answer + q.n_answer == 100);
    CHECK(words.decode({q.tokens.end() - q.n_answer, q.tokens.end()}) == " " + q.number);
  }
}

TEST_CASE("accuracy counts whole numbers, its error is binomial") {
  Retrieval found;
  found.add(5, 5);
  found.add(5, 4);
  found.add(4, 4);
  found.add(6, 6);
  CHECK(found.accuracy() == 0.75);
  CHECK(found.token_accuracy() == 19.0 / 20);
  CHECK(std::abs(found.accuracy_error() - std::sqrt(0.75 * 0.25 / 4)) < 1e-15);
}
