#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;

/// The prompt of the golden texts as a file of ids.
std::string prompt_file(const TempFolder& dir, const Json& golden) {
  std::string ids;
  for (const int id : golden.at("prompt")) ids += std::to_string(id) + " ";
  put_file(dir / "prompt.txt", ids);
  return dir / "prompt.txt";
}

Json golden(const std::string& name) {
  return Json::parse(get_file(std::string(BLOCKGTQ_SOURCE_DIR) + "/tests/golden/greedy.json")).at(name);
}

std::vector<std::string> with(std::vector<std::string> args, const std::vector<std::string>& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

void check_refused(const std::vector<std::string>& command, int code, const std::string& words) {
  const Outcome outcome = blockgtq(command);
  INFO(outcome.err);
  CHECK(outcome.code == code);
  CHECK_THAT(outcome.err, ContainsSubstring(words));
  CHECK(outcome.out.empty());
}

}  // namespace

TEST_CASE("generate writes the text of transformers' ids, to standard output as it comes") {
  TempFolder dir;
  const Json expected = golden("tiny-llama3");
  const std::vector<std::string> command = {
      "generate", "-m", model("tiny-llama3"), "--ids", prompt_file(dir, expected), "-q", "--device", "cpu"};
  const Json result = Json::parse(good(with(command, {"--json", "-"})).out);
  CHECK(result.at("ids") == expected.at("ids"));
  CHECK(result.at("prompt_tokens") == expected.at("prompt").size());
  CHECK(result.at("ended") == "length");
  CHECK(result.at("cache") == "exact");
  const std::string text = result.at("text");
  CHECK(text.size() > 100);
  CHECK(good(command).out == text + "\n");

  const std::string stop = text.substr(60, 12);
  const Json stopped =
      Json::parse(good(with(command, {"--json", "-", "--stop", "never in it", "--stop", stop})).out);
  CHECK(stopped.at("ended") == "stop");
  CHECK(stopped.at("text") == text.substr(0, text.find(stop)));
  CHECK(Json::parse(good(with(command, {"--json", "-", "-n", "5"})).out).at("ids").size() == 5);
}

TEST_CASE("generate from a text and from a file; draws go by their seed") {
  TempFolder dir;
  put_file(dir / "p.txt", "The magic number for apple-river is");
  const std::vector<std::string> base = {"generate", "-m", model("tiny-qwen2"), "-q",
                                         "-n",       "24", "--device",          "cpu"};
  const std::string by_text = good(with(base, {"-p", "The magic number for apple-river is"})).out;
  CHECK(good(with(base, {"-f", dir / "p.txt"})).out == by_text);
  const auto drawn = [&](const char* seed) {
    return good(with(base, {"-f", dir / "p.txt", "--temperature", "1.5", "--seed", seed})).out;
  };
  CHECK(drawn("1") == drawn("1"));
  CHECK(drawn("1") != drawn("2"));
  CHECK(good(with(base, {"-f", dir / "p.txt", "--temperature", "1.5", "--top-k", "1"})).out == by_text);
}

TEST_CASE("generate under a quantized cache: the same for long at eight bits, another text at one") {
  TempFolder dir;
  const Json expected = golden("tiny-llama3");
  const std::vector<std::string> command = {"generate",
                                            "-m",
                                            model("tiny-llama3"),
                                            "--ids",
                                            prompt_file(dir, expected),
                                            "-q",
                                            "--json",
                                            "-",
                                            "--k-method",
                                            "tq-mse",
                                            "--v-method",
                                            "tq-mse",
                                            "--pairs"};
  const Json eight = Json::parse(good(with(command, {"K8V8"})).out);
  for (size_t i = 0; i < 60; ++i) CHECK(eight.at("ids").at(i) == expected.at("ids").at(i));
  CHECK(eight.at("cache_bytes") > 0);
  const Json one = Json::parse(good(with(command, {"K1V1"})).out);
  CHECK(one.at("ids") != expected.at("ids"));
  CHECK(one.at("cache_bytes") < eight.at("cache_bytes"));
  // All positions exact: the exact text, whatever the bits.
  const Json sunk = Json::parse(good(with(command, {"K1V1", "--sink", "1000"})).out);
  CHECK(sunk.at("ids") == expected.at("ids"));
  const Json recent = Json::parse(good(with(command, {"K1V1", "--recent", "1000"})).out);
  CHECK(recent.at("ids") == expected.at("ids"));
}

TEST_CASE("generate --chat writes the template around the text") {
  TempFolder dir;
  std::filesystem::copy(model("tiny-llama"), dir / "model");
  put_file(dir / "model/tokenizer_config.json",
           R"({"chat_template": "{{ '<|im_start|>system\nBe good.<|im_end|>\n' }}"})");
  put_file(dir / "hello.txt", "Hello");
  const std::vector<std::string> base = {"generate", "-m", dir / "model", "-n", "8", "-q", "--device", "cpu"};
  const auto chat = [&](const std::string& system, const std::string& text) {
    return "<|im_start|>system\n" + system + "<|im_end|>\n<|im_start|>user\n" + text +
           "<|im_end|>\n<|im_start|>assistant\n";
  };
  const std::string plain = good(with(base, {"-p", chat("Be good.", "Hello")})).out;
  CHECK(good(with(base, {"-p", "Hello", "--chat"})).out == plain);
  CHECK(good(with(base, {"-f", dir / "hello.txt", "--chat"})).out == plain);
  CHECK(good(with(base, {"-p", "Hello", "--chat", "--system", "Be brief."})).out ==
        good(with(base, {"-p", chat("Be brief.", "Hello")})).out);
}

TEST_CASE("generate --chat: the template's first token comes once") {
  TempFolder dir;
  std::filesystem::copy(model("tiny-llama"), dir / "model");
  put_file(dir / "model/tokenizer_config.json",
           R"({"bos_token": "<|endoftext|>", "chat_template": "{{ bos_token }}{% for message in messages %})"
           R"({% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %})"
           R"({{ raise_exception('roles') }}{% endif %}{% endfor %}"})");
  std::filesystem::remove(dir / "model/generation_config.json");  // it would go first
  Json config = Json::parse(get_file(dir / "model/config.json"));
  config["bos_token_id"] = 0;
  put_file(dir / "model/config.json", config.dump());
  const auto tokens = [&](const std::vector<std::string>& more) {
    const std::vector<std::string> command = {"generate", "-m", dir / "model", "-p", "Hello",    "-n",
                                              "4",        "-q", "--json",      "-",  "--device", "cpu"};
    return Json::parse(good(with(command, more)).out).at("prompt_tokens").get<int>();
  };
  CHECK(tokens({"--chat", "--bos"}) == tokens({"--chat"}));
  CHECK(tokens({"--bos"}) == tokens({}) + 1);
}

TEST_CASE("generate --kv fp16 of a latent: held exactly") {
  TempFolder dir;
  const Json expected = golden("tiny-deepseek2");
  const std::vector<std::string> command = {
      "generate", "-m", model("tiny-deepseek2"), "--ids", prompt_file(dir, expected), "--kv", "fp16",
      "--device", "cpu"};
  const Outcome outcome = good(with(command, {"--json", "-"}));
  const Json result = Json::parse(outcome.out);
  CHECK(result.at("ids") == expected.at("ids"));
  CHECK(result.at("cache") == "exact");
  CHECK(result.at("prefill_chunk").is_null());
  CHECK_THAT(outcome.err, ContainsSubstring("no pages for a latent: it is held exactly, in float32"));
  check_refused(with(command, {"--prefill-chunk", "64"}), 2, "a latent has none");
}

TEST_CASE("generate --kv serves from pages") {
  TempFolder dir;
  const Json expected = golden("tiny-llama3");
  good({"calibrate", "-m", model("tiny-llama3"), "-f", text("calibration"), "--tokens", "512", "--bits",
        "3,8", "-o", dir / "map.h5", "-q", "--device", "cpu"});
  const std::vector<std::string> base = {"generate",
                                         "-m",
                                         model("tiny-llama3"),
                                         "--ids",
                                         prompt_file(dir, expected),
                                         "-q",
                                         "--json",
                                         "-",
                                         "--device",
                                         "cpu",
                                         "--kv"};
  const auto written = [&](const std::vector<std::string>& more) {
    return Json::parse(good(with(base, more)).out);
  };
  const Json halves = written({"fp16"});
  CHECK(halves.at("ids") == expected.at("ids"));
  CHECK(halves.at("cache") == "fp16, pages");
  CHECK(halves.at("prefill_chunk") == 2048);
  const Json in_chunks = written({"fp16", "--prefill-chunk", "5"});
  CHECK(in_chunks.at("ids") == expected.at("ids"));
  CHECK(in_chunks.at("prefill_chunk") == 5);
  const Json three = written({dir / "map.h5"});
  CHECK(three.at("cache") == "K3V3 block-gtq / tq-mse, pages");
  CHECK(three.at("ids").size() == expected.at("ids").size());
  CHECK(three.at("ids") != expected.at("ids"));
  CHECK(three.at("cache_bytes").get<double>() < 0.25 * halves.at("cache_bytes").get<double>());
  const Json eight = written({dir / "map.h5", "--pairs", "K8V8"});
  const auto same = [&](const Json& text) {  // tokens from the first on
    size_t n = 0;
    while (n < text.at("ids").size() && text.at("ids").at(n) == expected.at("ids").at(n)) ++n;
    return n;
  };
  // Until two tokens are nearly as likely: which comes then depends on the processor's rounding.
  CHECK(same(eight) >= 20);
  CHECK(same(eight) > same(three));
  // All positions exact: the exact text, whatever the bits.
  CHECK(written({dir / "map.h5", "--sink", "1024"}).at("ids") == expected.at("ids"));
  CHECK(written({dir / "map.h5", "--recent", "1024"}).at("ids") == expected.at("ids"));

  const auto refused = [&](const std::vector<std::string>& more, int code, const std::string& words) {
    check_refused(with(base, more), code, words);
  };
  refused({dir / "none.h5"}, 3, "none.h5");
  refused({dir / "map.h5", "--map", dir / "map.h5"}, 2, "--kv and --map exclude each other");
  refused({"fp16", "--k-method", "tq-mse"}, 2, "--kv fp16: nothing is quantized");
  refused({"fp16", "--sink", "64"}, 2, "--kv fp16: nothing is quantized");
  refused({dir / "map.h5", "--sink", "4"}, 2, "--sink: 4: whole pages of 64 positions are expected");
  refused({"fp16", "--prefill-chunk", "0"}, 2, "--prefill-chunk");
  refused({dir / "map.h5", "--k-method", "klt"}, 3, "pages have no place for keys coded before RoPE");
  refused({dir / "map.h5", "--k-method", "tq-mse-centres"}, 3, "pages have no place for centres of keys");
}

TEST_CASE("generate --kv --code trellis serves from pages of trellis codes") {
  TempFolder dir;
  const Json expected = golden("tiny-llama3");
  const std::string ids = prompt_file(dir, expected);
  const auto map = [&](const std::string& bits) {
    const std::string file = dir / ("map" + bits + ".h5");
    good({"calibrate", "-m", model("tiny-llama3"), "-f", text("calibration"), "--tokens", "512", "--bits",
          bits, "-o", file, "-q", "--device", "cpu"});
    return file;
  };
  const std::string three = map("3");
  const std::vector<std::string> base = {"generate", "-m", model("tiny-llama3"), "--ids", ids,    "-q",
                                         "--json",   "-",  "--device",           "cpu",   "--kv", three};
  const auto written = [&](const std::vector<std::string>& more) {
    return Json::parse(good(with(base, with({"--k-method", "tq-mse"}, more))).out);
  };
  const Json scalar = written({}), trellis = written({"--code", "trellis"});
  CHECK(trellis.at("cache") == "K3V3 tq-mse / tq-mse, trellis, pages");
  CHECK(trellis.at("cache_bytes") == scalar.at("cache_bytes"));
  CHECK(trellis.at("ids").size() == expected.at("ids").size());
  CHECK(trellis.at("ids") != expected.at("ids"));
  CHECK(written({"--code", "trellis"}).at("ids") == trellis.at("ids"));
  // As one text of several.
  put_file(dir / "list.jsonl", Json{{"ids", expected.at("prompt")}, {"n", 24}}.dump() + "\n" +
                                   Json{{"ids", {5, 17, 250, 9}}, {"n", 3}}.dump() + "\n");
  const Outcome listed =
      good({"generate", "-m", model("tiny-llama3"), "-q", "--device", "cpu", "--kv", three, "--k-method",
            "tq-mse", "--code", "trellis", "--prompts", dir / "list.jsonl", "--batch", "2"});
  const Json first = Json::parse(listed.out.substr(0, listed.out.find('\n')));
  for (size_t i = 0; i < 24; ++i) CHECK(first.at("ids").at(i) == trellis.at("ids").at(i));
  // All positions exact: the exact text.
  CHECK(written({"--code", "trellis", "--sink", "1024"}).at("ids") == expected.at("ids"));
  CHECK(written({"--code", "trellis", "--recent", "1024"}).at("ids") == expected.at("ids"));

  const auto refused = [&](const std::string& file, const std::vector<std::string>& more,
                           const std::string& words) {
    std::vector<std::string> command = base;
    command[11] = file;
    check_refused(with(command, with({"--code", "trellis", "--k-method"}, more)), 3,
                  "pages have no place for these trellis codes: " + words);
  };
  refused(map("1"), {"tq-mse"}, "1 bit: 2 to 4 are expected");
  // Codes of 8 bits are scalar ones: a trellis gains nothing there.
  refused(map("3,8"), {"tq-mse", "--pairs", "K8V3"}, "values alone: keys and values are expected");
  refused(three, {"block-gtq"}, "one group of all coordinates is expected");
  // Without methods: the best that have such pages, and of several budgets the first, which is said.
  std::vector<std::string> plain = {"generate", "-m",   model("tiny-llama3"), "--ids",  ids,       "--device",
                                    "cpu",      "--kv", map("3,4"),           "--code", "trellis", "-n",
                                    "2"};
  const Outcome chosen = good(plain);
  CHECK_THAT(chosen.err, ContainsSubstring("K3V3, the first of its 2 budgets: --pairs names another"));
  CHECK_THAT(chosen.err, ContainsSubstring("K3V3 tq-mse-cb / tq-mse-centred, trellis, pages"));
  CHECK_THAT(good(with(plain, {"--pairs", "K4V4"})).err, !ContainsSubstring("budgets"));
}

TEST_CASE("what generate refuses") {
  TempFolder dir;
  put_file(dir / "empty.txt", "");
  const std::vector<std::string> base = {"generate", "-m", model("tiny-llama"), "-n", "2"};
  const auto refused = [&](const std::vector<std::string>& more, int code, const std::string& words) {
    check_refused(with(base, more), code, words);
  };
  refused({}, 2, "a prompt is expected: one of -p, -f, --ids and --prompts");
  refused({"-p", "a", "-f", dir / "empty.txt"}, 2, "a prompt is expected");
  refused({"-f", dir / "empty.txt"}, 3, "the prompt has no tokens");
  refused({"-p", "a", "--k-method", "tq-mse", "--bits-k", "2,3"}, 2, "2 caches are described");
  refused({"-p", "a", "--k-method", "kivi", "--pairs", "K3"}, 2, "neighbouring tokens share scales");
  refused({"-p", "a", "--k-method", "block-gtq", "--pairs", "K3"}, 2, "--map");
  refused({"-p", "a", "--stop", ""}, 2, "--stop: an empty text");
  refused({"-p", "a", "--device", "cpu", "--prefill-chunk", "64"}, 2,
          "--prefill-chunk: pages are read in chunks");
  refused({"-p", "a", "--chat"}, 3, "no chat template");
  refused({"-p", "a", "--system", "b"}, 2, "--chat");
  refused({"--ids", dir / "empty.txt", "--chat"}, 2, "--chat: a text is expected");
  refused({"-p", "a", "--top-p", "0"}, 2, "--top-p");
  refused({"-p", "a", "--device", "cuda"}, 5, "--device cpu");
  put_file(dir / "out.json", "mine");
  refused({"-p", "a", "--json", dir / "out.json"}, 4, "--force");
  CHECK(get_file(dir / "out.json") == "mine");
}

}  // namespace blockgtq
