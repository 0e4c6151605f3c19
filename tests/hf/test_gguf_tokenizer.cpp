// Tokenizers from a GGUF file's metadata. score_tokenizer.json and its ids are SentencePiece's own
// (make_score_tokenizer.py).
#include "hf/gguf_tokenizer.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/expect_error.h"
#include "catch.h"
#include "hf/byte_level.h"
#include "hf/gguf_of.h"
#include "hf/tokenizer.h"
#include "hf/utf8.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

using Ids = std::vector<int32_t>;

const fs::path kSource = BLOCKGTQ_SOURCE_DIR;

/// Reads back what the builder holds.
std::string tokenizer_json(const TempDir& dir, const GgufBuilder& b) {
  b.write(dir / "t.gguf");
  return gguf_tokenizer(dir / "t.gguf");
}

GgufBuilder tiny() {
  GgufBuilder b;
  add_tokenizer(kSource / "data/models/tiny-llama", b);
  return b;
}

/// A vocabulary of the 256 bytes and nothing to merge: ids show where a text is cut only through
/// ignore_merges, but every pattern has to be understood.
GgufBuilder bytes_only() {
  GgufBuilder b;
  std::vector<std::string> tokens;
  for (int i = 0; i < 256; ++i) {
    std::string token;
    append_utf8(token, byte_to_char(static_cast<unsigned char>(i)));
    tokens.push_back(token);
  }
  b.text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.tokens", tokens);
  return b.texts("tokenizer.ggml.merges", {});
}

}  // namespace

TEST_CASE("a byte-level tokenizer of a GGUF file is that of the folder", "[gguf][gguf_tokenizer]") {
  TempDir dir;
  const Tokenizer want(kSource / "data/models/tiny-llama/tokenizer.json");
  const Tokenizer got(tokenizer_json(dir, tiny()), "t.gguf");
  const MappedFile text(kSource / "data/texts/evaluation.txt");
  const Ids ids = got.encode(text.text());
  CHECK(ids == want.encode(text.text()));
  CHECK(got.decode(ids) == text.text());
  CHECK(got.vocab_size() == want.vocab_size());
  CHECK(got.encode("a<|endoftext|>b") == want.encode("a<|endoftext|>b"));
  CHECK(open_tokenizer(dir / "t.gguf").encode("Hello, world!") == want.encode("Hello, world!"));
}

TEST_CASE("every named pattern is understood", "[gguf][gguf_tokenizer]") {
  TempDir dir;
  for (const char* name : {"gpt-2", "phi-2", "olmo", "mellum", "smollm", "starcoder", "command-r",
                           "llama-bpe", "llama3", "llama-v3", "smaug-bpe", "qwen2", "deepseek-r1-qwen",
                           "qwen35", "tekken", "gpt-4o", "seed-coder", "deepseek-coder", "deepseek-v3"}) {
    CAPTURE(name);
    const std::string json = tokenizer_json(dir, bytes_only().text("tokenizer.ggml.pre", name));
    const Tokenizer t(json, "t.gguf");
    const std::string text = "It's 1234 \u4e2d\u6587, caf\u00e9!\r\n\tx = y;";
    CHECK(t.encode(text).size() == text.size());
    CHECK(t.decode(t.encode(text)) == text);
  }
}

TEST_CASE("digits stand alone where the pattern says so", "[gguf][gguf_tokenizer]") {
  TempDir dir;
  GgufBuilder b = bytes_only();
  std::vector<std::string> tokens;
  for (int i = 0; i < 256; ++i) {
    tokens.emplace_back();
    append_utf8(tokens.back(), byte_to_char(static_cast<unsigned char>(i)));
  }
  tokens.push_back("12");
  b.texts("tokenizer.ggml.tokens", tokens).texts("tokenizer.ggml.merges", {"1 2"});
  const auto ids = [&](const char* name) {
    return Tokenizer(tokenizer_json(dir, b.text("tokenizer.ggml.pre", name)), "t").encode("12");
  };
  CHECK(ids("gpt-2") == Ids{256});
  CHECK(ids("llama-bpe") == Ids{256});
  CHECK(ids("smollm") == Ids{'1', '2'});
  CHECK(ids("qwen2") == Ids{'1', '2'});
}

TEST_CASE("pieces with scores merge as in SentencePiece", "[gguf][gguf_tokenizer]") {
  TempDir dir;
  const nlohmann::json model = nlohmann::json::parse(file_bytes(kSource / "tests/hf/score_tokenizer.json"));
  GgufBuilder b;
  b.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", model["tokens"]);
  b.array<float>("tokenizer.ggml.scores", 6, model["scores"]);
  b.array<int32_t>("tokenizer.ggml.token_type", 5, model["types"]);
  const Tokenizer t(tokenizer_json(dir, b), "t.gguf");
  for (size_t i = 0; i < model["strings"].size(); ++i) {
    const std::string text = model["strings"][i];
    CAPTURE(text);
    const Ids ids = t.encode(text);
    CHECK(ids == model["ids"][i].get<Ids>());
    CHECK(t.decode(ids) == text);
  }
  Ids around = t.encode("a");
  around.push_back(t.id_of("</s>"));
  for (const int32_t id : t.encode("b")) around.push_back(id);
  CHECK(t.encode("a</s>b") == around);
  b.flag("tokenizer.ggml.add_space_prefix", false);
  const Tokenizer bare(tokenizer_json(dir, b), "t.gguf");
  CHECK(bare.decode(bare.encode(" x y")) == " x y");
  CHECK(bare.encode("x") != t.encode("x"));
}

TEST_CASE("a tokenizer that is not supported is refused by its key", "[gguf][gguf_tokenizer]") {
  TempDir dir;
  const std::pair<std::function<void(GgufBuilder&)>, const char*> cases[] = {
      {[](GgufBuilder& b) { b.text("tokenizer.ggml.model", "t5"); },
       "tokenizer.ggml.model: \"t5\" is not supported: gpt2, llama"},
      {[](GgufBuilder& b) { b.erase("tokenizer.ggml.model"); }, "tokenizer.ggml.model: missing"},
      {[](GgufBuilder& b) { b.text("tokenizer.ggml.pre", "viking"); },
       "tokenizer.ggml.pre: \"viking\" is not supported: gpt-2, "},
      {[](GgufBuilder& b) { b.erase("tokenizer.ggml.pre"); }, "tokenizer.ggml.pre: missing: gpt-2"},
      {[](GgufBuilder& b) { b.erase("tokenizer.ggml.tokens"); }, "tokens: missing: an array of strings"},
      {[](GgufBuilder& b) { b.erase("tokenizer.ggml.merges"); }, "merges: missing"},
      {[](GgufBuilder& b) { b.integer("tokenizer.ggml.tokens", 1); }, "expected an array of strings"},
      {[](GgufBuilder& b) { b.texts("tokenizer.ggml.tokens", {"a\xff"}); }, "string 0 is not UTF-8"},
      {[](GgufBuilder& b) { b.array<int32_t>("tokenizer.ggml.token_type", 5, {1}); },
       "1 numbers for 2048 tokens"},
      {[](GgufBuilder& b) { b.array("tokenizer.ggml.token_type", 5, std::vector<int32_t>(2048, 9)); },
       "token 0: type 9 is out of range"},
      {[](GgufBuilder& b) { b.texts("tokenizer.ggml.merges", {"a b c"}); }, "merge 0"},
      {[](GgufBuilder& b) { b.text("tokenizer.ggml.model", "llama"); },
       "scores: missing: an array of FLOAT32"},
      {[](GgufBuilder& b) {
         b.text("tokenizer.ggml.model", "llama").array<float>("tokenizer.ggml.scores", 6, {0});
       },
       "scores: 1 numbers for 2048 tokens"},
      {[](GgufBuilder& b) {
         b.text("tokenizer.ggml.model", "llama").flag("tokenizer.ggml.remove_extra_whitespaces", true);
       },
       "remove_extra_whitespaces: true is not supported"},
  };
  for (const auto& [spoil, says] : cases) {
    CAPTURE(says);
    GgufBuilder b = tiny();
    spoil(b);
    b.write(dir / "t.gguf");
    const std::string what = expect_error(Exit::input, [&] { open_tokenizer(dir / "t.gguf"); });
    CHECK_THAT(what, ContainsSubstring("t.gguf: "));
    CHECK_THAT(what, ContainsSubstring(says));
  }
}
