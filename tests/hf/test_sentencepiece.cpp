// Tokenizers with the pieces of SentencePiece. The files of sentencepiece/, and what the library makes of
// texts with them, are by make_sentencepiece.py.
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "catch.h"
#include "hf/decoder.h"
#include "hf/tokenizer.h"

using namespace blockgtq;

namespace {

using Ids = std::vector<int32_t>;

const fs::path kSource = BLOCKGTQ_SOURCE_DIR;
const fs::path kFolder = kSource / "tests/hf/sentencepiece";

std::string hash(const Ids& ids) {
  Sha256 h;
  h.update(std::as_bytes(std::span(ids)));  // little-endian int32
  return h.hex();
}

std::string decode(const std::string& json, const std::vector<std::string>& tokens) {
  const Json j = parse_json(json, "t");
  return Decoder(j.is_null() ? nullptr : &j, "t").decode(tokens);
}

}  // namespace

TEST_CASE("ids of SentencePiece-like tokenizers", "[hf][sentencepiece]") {
  const Json expected = read_json(kFolder / "expected.json", 1 << 20);
  const MappedFile text(kSource / "data/texts/evaluation.txt");
  for (const std::string name : {"llama2", "gemma", "mistral", "words"}) {
    CAPTURE(name);
    const Tokenizer t(kFolder / (name + ".json"));
    for (size_t i = 0; i < expected["strings"].size(); ++i) {
      const std::string s = expected["strings"][i];
      CAPTURE(s);
      const Ids ids = t.encode(s);
      CHECK(ids == expected["ids"][name][i].get<Ids>());
      CHECK(t.decode(ids) == expected["decoded"][name][i].get<std::string>());
    }
    const Ids all = t.encode(text.text());
    CHECK(hash(all) == expected["sha256"][name].get<std::string>());
    CHECK((t.encode(text.text(), 1000) == Ids(all.begin(), all.begin() + 1000)));
  }
}

TEST_CASE("a text of one word takes n log n", "[hf][sentencepiece]") {
  const auto start = std::chrono::steady_clock::now();
  for (const std::string name : {"llama2", "gemma"}) {
    const Tokenizer t(kFolder / (name + ".json"));
    for (const char* unit : {"a", "the ", " ", "\u4e2d", "zq", "</s>", "th"}) {
      std::string text;
      while (text.size() < 500'000) text += unit;
      CAPTURE(name, unit);
      CHECK(t.encode(text).size() > 1000);
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < 20);  // some 1 s; anything quadratic would take hours
}

TEST_CASE("decoders", "[hf][sentencepiece]") {
  const auto metaspace = [](const std::string& scheme) {
    return R"({"type":"Metaspace","replacement":"_","prepend_scheme":")" + scheme + R"(","split":true})";
  };
  CHECK(decode(metaspace("always"), {"_a", "_b_"}) == "a b ");
  CHECK(decode(metaspace("first"), {"_a", "_b"}) == "a b");
  CHECK(decode(metaspace("never"), {"_a", "_b"}) == " a b");
  const std::string fallback = R"({"type":"ByteFallback"})";
  CHECK(decode(fallback, {"<0xC3>", "<0xa9>", "x", "<0xC3>", "<0x41"}) == "\u00e9x\ufffd<0x41");
  CHECK(decode(fallback, {"<0xC3>", "<0xC3>"}) == "\ufffd\ufffd");
  CHECK(decode(R"({"type":"Strip","content":" ","start":1,"stop":2})", {"  a", "b   "}) == " ab ");
  CHECK(
      decode(
          R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})",
          {" a", " b"}) == "a b");
  CHECK(decode(R"({"type":"Replace","pattern":{"String":"_"},"content":" "})", {"_a_", "b"}) == " a b");
  CHECK(decode(R"({"type":"Sequence","decoders":[]})", {"a", "b"}) == "ab");
  CHECK(decode("null", {"a", "b"}) == "a b");
  CHECK(decode(R"({"type":"ByteLevel"})", {"\u0120"
                                           "a",
                                           "\u4e2d"}) == " a\u4e2d");
  CHECK_THROWS_WITH(decode(R"({"type":"CTC"})", {}),
                    ContainsSubstring("t: the type is not supported: CTC, allowed:"));
  CHECK_THROWS_WITH(decode(R"({"type":"Replace","pattern":{"Regex":"_"},"content":" "})", {}),
                    ContainsSubstring("\"String\" is missing"));
  CHECK_THROWS_WITH(decode(R"({"type":"Strip","content":"","start":1,"stop":0})", {}),
                    ContainsSubstring("Strip of an empty text"));
  CHECK_THROWS_WITH(decode(R"({"type":"Strip","content":"x","start":-1,"stop":0})", {}),
                    ContainsSubstring("\"start\" is not a count: -1"));
}
