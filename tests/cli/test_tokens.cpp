// From a text to tokens: the first token of a window, and folders whose tokenizer is not in one file.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;

const std::string kText = text("evaluation");

/// A copy of a model with a bos_token_id.
std::string with_bos(const TempFolder& dir, int id) {
  const std::filesystem::path copy = dir / "model";
  std::filesystem::copy(model("tiny-llama"), copy);
  put_file(copy / "generation_config.json", R"({"bos_token_id":)" + std::to_string(id) + "}");
  return copy;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("--bos begins every window with the bos token, as if the ids had been given so") {
  TempFolder dir;
  const std::string folder = with_bos(dir, 5);
  std::vector<std::string> ids =
      lines_of(good({"tokenize", "-m", folder, "-f", kText, "--bos", "--tokens", "300"}).out);
  REQUIRE(ids.size() == 300);
  CHECK(ids[0] == "5");  // tokenize has one window
  CHECK(ids[1] == lines_of(good({"tokenize", "-m", folder, "-f", kText, "--tokens", "1"}).out).at(0));
  ids[128] = ids[256] = "5";
  std::string all;
  for (const std::string& id : ids) all += id + "\n";
  put_file(dir / "ids.txt", all);
  const auto run = [&](const std::string& option, const std::string& file, const std::string& bos) {
    return Json::parse(
               good({"perplexity", "-m", folder, option, file, bos, "--tokens", "300", "--chunk", "128",
                     "--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", "K3V3", "--json", "-", "-q"})
                   .out)
        .at("models");
  };
  const Json from_text = run("-f", kText, "--bos"), from_ids = run("--ids", dir / "ids.txt", "--no-bos");
  CHECK(from_text[0].at("predicted") == 297);
  CHECK(from_text[0].at("exact") == from_ids[0].at("exact"));
  CHECK(from_text[0].at("caches") == from_ids[0].at("caches"));
  CHECK(from_text[0].at("exact") != run("-f", kText, "--no-bos")[0].at("exact"));
}

TEST_CASE("--bos: parts are cut as without, and do not mix with them") {
  TempFolder dir;
  const std::string folder = with_bos(dir, 5);
  const auto energy = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> args = {"energy", "-m",      folder, "-f", kText, "--tokens",
                                     "300",    "--chunk", "64",   "-q", "-o",  dir / name};
    args.insert(args.end(), more.begin(), more.end());
    good(args);
    return std::string(dir / name);
  };
  const std::string whole = energy("whole.h5", {"--bos"}), first = energy("1.h5", {"--bos", "--part", "1/2"}),
                    second = energy("2.h5", {"--bos", "--part", "2/2"}),
                    plain = energy("plain.h5", {"--part", "2/2"});
  good({"merge", first, second, "-o", dir / "merged.h5"});
  const bool same = same_bytes(whole, dir / "merged.h5");
  CHECK(same);
  const Outcome outcome = blockgtq({"merge", first, plain, "-o", dir / "bad.h5"});
  CHECK(outcome.code == 3);
}

TEST_CASE("niah --bos: every question begins with the bos token, the text has none") {
  TempFolder dir;
  const auto run = [&](const std::string& folder, const std::string& bos) {
    return Json::parse(
               good({"niah", "-m", folder, "-f", kText, bos, "--k-method", "tq-mse", "--v-method", "tq-mse",
                     "--pairs", "K3V3", "--context", "96", "--questions", "6", "--json", "-", "-q"})
                   .out)
        .at("results");
  };
  const std::string folder = with_bos(dir, 5);
  const Json plain = run(folder, "--no-bos"), begun = run(folder, "--bos");
  CHECK(begun.at(0).at("questions") == 6);
  CHECK(begun.at(0).at("token_accuracy") >= 0.5);
  CHECK(begun != plain);
  put_file(std::filesystem::path(folder) / "generation_config.json", "{}");
  CHECK(run(folder, "--no-bos") == plain);  // nothing else looks at it
}

TEST_CASE("added tokens of tokenizer_config.json, and a warning where ids differ") {
  TempFolder dir;
  const std::filesystem::path folder = dir / "model";
  std::filesystem::copy(model("tiny-llama"), folder);
  put_file(dir / "x.txt", "a <think> b");
  const auto config = [&](const std::string& id) {
    put_file(folder / "tokenizer_config.json",
             R"({"added_tokens_decoder":{")" + id +
                 R"(":{"content":"<think>","special":false,"normalized":false}}})");
  };
  config("2048");
  const Outcome outcome = good({"tokenize", "-m", folder, "-f", dir / "x.txt"});
  CHECK(outcome.out == "65\n221\n2048\n291\n");  // transformers 5.24.0
  CHECK(outcome.err.empty());
  config("3000");
  const Outcome warned = good({"tokenize", "-m", folder, "-f", dir / "x.txt"});
  CHECK(warned.out == outcome.out);
  CHECK_THAT(warned.err, ContainsSubstring("\"<think>\" is 3000 there, 2048 here"));
  CHECK(lines_of(warned.err).size() == 1);
  // The model has 2048 tokens.
  const Outcome beyond =
      blockgtq({"energy", "-m", folder, "-f", dir / "x.txt", "--tokens", "4", "-o", dir / "s.h5"});
  CHECK(beyond.code == 3);
  CHECK_THAT(beyond.err, ContainsSubstring("a token the model does not have: 2048, allowed: 0..2047"));
}

TEST_CASE("no tokenizer.json: the error says what is there, the hint what to do") {
  TempFolder dir;
  const std::filesystem::path folder = dir / "model";
  std::filesystem::copy(model("tiny-llama"), folder);
  std::filesystem::remove(folder / "tokenizer.json");
  put_file(folder / "tokenizer.model", "");
  const Outcome outcome = blockgtq({"energy", "-m", folder, "-f", kText, "-o", dir / "s.h5", "-q"});
  CHECK(outcome.code == 3);
  CHECK(error_lines(outcome) == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("no tokenizer.json, only tokenizer.model\nhint: --ids FILE"));
  CHECK_FALSE(std::filesystem::exists(dir / "s.h5"));
}

}  // namespace blockgtq
