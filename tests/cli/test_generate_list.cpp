// generate --prompts: many texts in one run, each as it would be alone.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;
using Args = std::vector<std::string>;

const char* const kList = R"({"prompt": "The magic number for apple-river is", "id": "a"})"
                          "\n"
                          R"({"ids": [5, 17, 250, 9], "n": 3})"
                          "\n\n"
                          R"({"prompt": "One day", "n": 40, "id": 7, "seed": 3})"
                          "\r\n"
                          R"({"prompt": "Once", "n": 1})"
                          "\n"
                          R"({"prompt": "She said that", "n": 12, "stop": ["never in it"], "id": "a"})";

Args with(Args args, const Args& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

Args base(const std::string& name) {
  return {"generate", "-m", model(name), "-q", "--device", "cpu"};
}

std::vector<Json> lines_of_json(const std::string& text) {
  std::vector<Json> all;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) all.push_back(Json::parse(line));
  return all;
}

/// The five texts of kList as runs of their own, 16 tokens where it says nothing.
std::vector<Json> alone(const Args& args) {
  TempFolder dir;
  put_file(dir / "ids.txt", "5 17 250 9");
  const auto one = [&](const Args& more) {
    return Json::parse(good(with(with(args, {"--json", "-"}), more)).out);
  };
  return {one({"-p", "The magic number for apple-river is", "-n", "16"}),
          one({"--ids", dir / "ids.txt", "-n", "3"}), one({"-p", "One day", "-n", "40", "--seed", "3"}),
          one({"-p", "Once", "-n", "1"}), one({"-p", "She said that", "-n", "12"})};
}

}  // namespace

TEST_CASE("generate --prompts writes each text as a run of its own does, in order") {
  TempFolder dir;
  put_file(dir / "list.jsonl", kList);
  const Args args = base("tiny-qwen2");
  const Args listed = {"--prompts", dir / "list.jsonl", "-n", "16"};
  for (const Args& kind : {Args{}, Args{"--kv", "fp16"}, Args{"--temperature", "1.2", "--top-k", "50"}}) {
    const std::vector<Json> expected = alone(with(args, kind));
    std::string first;
    for (const std::string batch : {"1", "3", "8"}) {
      const std::string out = good(with(with(args, kind), with(listed, {"--batch", batch}))).out;
      if (first.empty()) first = out;
      CHECK(out == first);
    }
    const std::vector<Json> got = lines_of_json(first);
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i)
      for (const char* key : {"prompt_tokens", "ids", "text", "ended"})
        CHECK(got[i].at(key) == expected[i].at(key));
    const std::vector<Json> ids = {"a", 2, 7, 5, "a"};
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i].at("id") == ids[i]);
    CHECK(got[0].size() == 5);
  }
  const Outcome piped =
      shell("\"$BLOCKGTQ\" generate -m '" + model("tiny-qwen2") + "' -q -n 16 --device cpu --prompts - < '" +
            std::string(dir / "list.jsonl") + "'");
  CHECK(piped.code == 0);
  CHECK(piped.out == good(with(args, listed)).out);
}

TEST_CASE("generate --prompts: a text stops where its line or --stop says") {
  TempFolder dir;
  const Args args = with(base("tiny-llama3"), {"-n", "48"});
  put_file(dir / "plain.jsonl", R"({"prompt": "The river"})");
  const std::string text =
      Json::parse(good(with(args, {"--prompts", dir / "plain.jsonl"})).out).at("text").get<std::string>();
  REQUIRE(text.size() > 40);
  const std::string early = text.substr(8, 6), late = text.substr(24, 6);
  const Json of_line = {{"prompt", "The river"}, {"stop", early}}, listed = {{"prompt", "The river"}};
  put_file(dir / "list.jsonl", of_line.dump() + "\n" + listed.dump() + "\n");
  const std::vector<Json> got =
      lines_of_json(good(with(args, {"--prompts", dir / "list.jsonl", "--stop", late})).out);
  REQUIRE(got.size() == 2);
  CHECK(got[0].at("text") == text.substr(0, text.find(early)));
  CHECK(got[1].at("text") == text.substr(0, text.find(late)));
  for (const Json& each : got) CHECK(each.at("ended") == "stop");
}

TEST_CASE("generate --prompts --chat writes the template around each text") {
  TempFolder dir;
  std::filesystem::copy(model("tiny-llama"), dir / "model");
  put_file(dir / "model/tokenizer_config.json",
           R"({"chat_template": "{{ '<|im_start|>system\nBe good.<|im_end|>\n' }}"})");
  put_file(dir / "list.jsonl", R"({"prompt": "Hello"})"
                               "\n"
                               R"({"prompt": "Good day"})");
  const Args args = {"generate", "-m", dir / "model", "-n", "8", "-q", "--device", "cpu", "--chat"};
  const std::vector<Json> got = lines_of_json(good(with(args, {"--prompts", dir / "list.jsonl"})).out);
  REQUIRE(got.size() == 2);
  for (const auto& [i, prompt] : {std::pair(0, "Hello"), std::pair(1, "Good day")})
    CHECK(got[size_t(i)].at("ids") ==
          Json::parse(good(with(args, {"-p", prompt, "--json", "-"})).out).at("ids"));
}

TEST_CASE("generate --prompts: an output appears whole, and not over another") {
  TempFolder dir;
  put_file(dir / "list.jsonl", kList);
  const Args args = with(base("tiny-llama"), {"--prompts", dir / "list.jsonl", "-n", "8"});
  const std::string out = good(args).out;
  const std::string file = dir / "out.jsonl";
  CHECK(good(with(args, {"-o", file})).out.empty());
  CHECK(get_file(file) == out);
  put_file(file, "mine");
  const Outcome refused = blockgtq(with(args, {"-o", file}));
  CHECK(refused.code == 4);
  CHECK_THAT(refused.err, ContainsSubstring("--force"));
  CHECK(get_file(file) == "mine");
  good(with(args, {"-o", file, "--force"}));
  CHECK(get_file(file) == out);
}

TEST_CASE("what generate --prompts refuses, before any text") {
  TempFolder dir;
  const std::string file = dir / "list.jsonl";
  const Args args = with(base("tiny-llama"), {"--prompts", file});
  const auto refused = [&](const std::string& line, const std::string& words) {
    put_file(file, std::string(R"({"prompt": "good"})") + "\n\n" + line + "\n");
    const Outcome outcome = blockgtq(with(args, {"-o", dir / "out.jsonl"}));
    INFO(outcome.err);
    CHECK(outcome.code == 3);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(file + ": line 3: ") && ContainsSubstring(words));
    CHECK(outcome.out.empty());
    CHECK_FALSE(std::filesystem::exists(dir / "out.jsonl"));
  };
  refused("{", "not valid JSON");
  refused("[1]", "a JSON object is expected");
  refused("{}", "one of \"prompt\" and \"ids\" is expected");
  refused(R"({"prompt": "a", "ids": [1]})", "one of \"prompt\" and \"ids\" is expected");
  refused(R"({"prompt": 1})", "\"prompt\": a text is expected");
  refused(R"({"prompt": ""})", "the prompt has no tokens");
  refused(R"({"ids": []})", "\"ids\": a list of token ids is expected");
  refused(R"({"ids": [1.5]})", "\"ids\": whole numbers in 0..");
  refused(R"({"ids": [-1]})", "\"ids\": whole numbers in 0..");
  refused(R"({"ids": [2000000000]})", "a token the model does not have: 2000000000");
  refused(R"({"prompt": "a", "n": 0})", "\"n\": whole numbers in 1..");
  refused(R"({"prompt": "a", "n": 18446744073709551615})", "\"n\": whole numbers in 1..");
  refused(R"({"prompt": "a", "seed": -1})", "\"seed\": a whole number from 0 on is expected");
  refused(R"({"prompt": "a", "stop": ["b", ""]})", "\"stop\": an empty text is in every text");
  refused(R"({"prompt": "a", "stop": 3})", "\"stop\": a text is expected");
  refused(R"({"prompt": "a", "id": [1]})", "\"id\": a text or a whole number is expected");
  refused(R"({"prompt": "a", "m": 3})", "\"m\": none of prompt, ids, id, n, seed and stop");

  const auto usage = [&](const Args& more, const std::string& words) {
    const Outcome outcome = blockgtq(with({"generate", "-m", model("tiny-llama")}, more));
    INFO(outcome.err);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, ContainsSubstring(words));
  };
  usage({"--prompts", file, "-p", "a"}, "a prompt is expected: one of");
  usage({"--prompts", file, "--json", "-"}, "--json holds one text");
  usage({"-p", "a", "-o", dir / "out.jsonl"}, "-o holds the texts of --prompts");
  usage({"-p", "a", "--batch", "2"}, "--prompts");
  usage({"--prompts", file, "--batch", "0"}, "--batch");
  usage({"--prompts", file, "--batch", "17"}, "--batch");
  put_file(file, "\n \n");
  const Outcome none = blockgtq(args);
  CHECK(none.code == 3);
  CHECK_THAT(none.err, ContainsSubstring("no prompts"));
}

}  // namespace blockgtq
