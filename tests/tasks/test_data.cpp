// What is read from files of JSON lines.
#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "catch.h"
#include "tasks/longbench.h"
#include "tasks/problems.h"

using namespace blockgtq;

namespace {

const LongBenchTask& task(const std::string& name) {
  for (const LongBenchTask& t : longbench_tasks())
    if (t.name == name) return t;
  throw std::logic_error(name);
}

std::string refused(const std::string& text, bool problems) {
  TempFolder dir;
  put_file(dir / "data.jsonl", text);
  return expect_error(Exit::input, [&] {
    if (problems)
      read_problems(dir / "data.jsonl", 0);
    else
      read_longbench(dir / "data.jsonl", 0);
  });
}

const std::string kGood =
    "{\"input\": \"i\", \"context\": \"c\", \"answers\": [\"a\", \"b\"], \"length\": 1, \"dataset\": "
    "\"qasper\", "
    "\"language\": \"en\", \"all_classes\": null, \"_id\": \"x\"}\n";

std::string with(const std::string& from, const std::string& to) {
  std::string text = kGood;
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace

TEST_CASE("longbench: sixteen English tasks, with the published lengths and scores") {
  CHECK(longbench_tasks().size() == 16);
  CHECK(task("narrativeqa").tokens == 128);
  CHECK(task("hotpotqa").tokens == 32);
  CHECK(task("gov_report").score == Score::rouge_l);
  CHECK(task("repobench-p").score == Score::code_similarity);
  for (const char* name : {"trec", "triviaqa", "samsum"}) {
    CHECK(task(name).first_line);
    CHECK_FALSE(task(name).chat);
  }
  CHECK_FALSE(task("lcc").chat);
  CHECK(task("samsum").one_line);
  CHECK_FALSE(task("trec").one_line);
  for (const LongBenchTask& t : longbench_tasks()) CHECK(t.prompt.find("{context}") != std::string::npos);
}

TEST_CASE("longbench: a prompt has context and input where they belong, and nothing in them counts") {
  const LongBenchSample sample{"1", "say {input}", "{context}", {"x"}, {}};
  CHECK(longbench_prompt(task("trec"), sample) ==
        "Please determine the type of the question below. Here are some examples of questions.\n\nsay "
        "{input}\n{context}");
  const LongBenchSample few{"1", "", "", {"Location"}, {"Location", "Number"}};
  CHECK(longbench_score(task("trec"), few, "\nLocation\nNumber") == 1);
  const LongBenchSample question{"1", "", "", {"the river", "a lake"}, {}};
  CHECK(longbench_score(task("qasper"), question, "Lake.") == 1);
}

TEST_CASE("longbench: files as published; what is wrong is named by file and line") {
  TempFolder dir;
  put_file(dir / "data.jsonl", kGood + "\n" + with("null", "[\"k\"]").replace(0, 1, " {"));
  CHECK_THROWS_AS(read_longbench(dir / "data.jsonl", 0), Error);  // _id twice
  CHECK(read_longbench(dir / "data.jsonl", 1).size() == 1);
  const LongBenchSample sample = read_longbench(dir / "data.jsonl", 1)[0];
  CHECK(sample.id == "x");
  CHECK((sample.answers == std::vector<std::string>{"a", "b"}));
  CHECK(sample.classes.empty());

  CHECK_THAT(refused("", false), ContainsSubstring("data.jsonl: no lines of JSON"));
  CHECK_THAT(refused("\n \n", false), ContainsSubstring("data.jsonl: no lines of JSON"));
  CHECK_THAT(refused(kGood + "{\"input\": \n", false), ContainsSubstring("data.jsonl:2"));
  CHECK_THAT(refused("[1]\n", false), ContainsSubstring("data.jsonl:1: not a JSON object: array found"));
  CHECK_THAT(refused(with("\"context\"", "\"text\""), false),
             ContainsSubstring("data.jsonl:1: \"context\" is missing"));
  CHECK_THAT(refused(with("\"i\"", "5"), false), ContainsSubstring("\"input\" is not a text: number found"));
  CHECK_THAT(refused(with("[\"a\", \"b\"]", "\"a\""), false),
             ContainsSubstring("\"answers\" is not a list of texts: string found"));
  CHECK_THAT(refused(with("[\"a\", \"b\"]", "[1]"), false),
             ContainsSubstring("\"answers\" is not a list of texts: number found"));
  CHECK_THAT(refused(with("[\"a\", \"b\"]", "[]"), false), ContainsSubstring("\"answers\" is empty"));
  CHECK_THAT(refused(with("null", "{}"), false), ContainsSubstring("\"all_classes\" is not a list"));
  CHECK_THAT(refused(kGood + kGood, false), ContainsSubstring("data.jsonl:2: \"_id\" comes twice: x"));
}

TEST_CASE("problems: an answer is a text or a whole number, an id stands there or is counted") {
  TempFolder dir;
  put_file(dir / "data.jsonl",
           "{\"problem\": \"p\", \"answer\": 7}\r\n{\"id\": \"b\", \"problem\": \"q\", \"answer\": \"08\"}");
  const std::vector<Problem> problems = read_problems(dir / "data.jsonl", 0);
  REQUIRE(problems.size() == 2);
  CHECK(problems[0].id == "1");
  CHECK(problems[0].answer == "7");
  CHECK(problems[1].id == "b");
  CHECK(read_problems(dir / "data.jsonl", 1).size() == 1);
  CHECK(problem_score(problems[1], "\\boxed{8}") == 1);
  CHECK(problem_score(problems[1], "8") == 0);
  CHECK(problem_score(problems[1], "\\boxed{8} no, \\boxed{9}") == 0);
  CHECK_THAT(problem_prompt(problems[0]), ContainsSubstring("p\n\nPlease reason step by step"));

  CHECK_THAT(refused("{\"problem\": \"p\"}", true), ContainsSubstring("data.jsonl:1: \"answer\" is missing"));
  CHECK_THAT(refused("{\"problem\": 1, \"answer\": 1}", true),
             ContainsSubstring("\"problem\" is not a text"));
  CHECK_THAT(refused("{\"problem\": \"p\", \"answer\": 1.5}", true),
             ContainsSubstring("\"answer\" is not a text or a whole number: number found"));
  CHECK_THAT(
      refused("{\"id\": 2, \"problem\": \"p\", \"answer\": 1}\n{\"problem\": \"p\", \"answer\": 1}", true),
      ContainsSubstring("data.jsonl:2: \"id\" comes twice: 2"));
}
