// Whole tokenizers. Ids of data/models/tiny-llama are those of the `tokenizers` library, 0.23.3.
#include "hf/tokenizer.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/sha256.h"
#include "byte_tokenizer.h"
#include "catch.h"
#include "hf/utf8.h"

using namespace blockgtq;

namespace {

using Ids = std::vector<int32_t>;

const fs::path kModels = fs::path(BLOCKGTQ_SOURCE_DIR) / "data/models";

Tokenizer tiny_llama() {
  return Tokenizer(kModels / "tiny-llama/tokenizer.json");
}

std::string hash(const Ids& ids) {
  Sha256 h;
  h.update(std::as_bytes(std::span(ids)));  // little-endian int32
  return h.hex();
}

}  // namespace

TEST_CASE("ids of a small Llama-3-like tokenizer", "[hf][tokenizer]") {
  const Tokenizer t = tiny_llama();
  CHECK(t.encode("") == Ids{});
  CHECK(t.encode("Hello, world!") == Ids{40, 276, 318, 12, 282, 1948, 1});
  CHECK(t.encode("  two  spaces\n\n\tand tab ") ==
        Ids{221, 933, 221, 1006, 789, 273, 285, 198, 408, 260, 390, 221});
  CHECK(t.encode("It's WE'LL he'\u017f") == Ids{41, 84, 1787, 494, 37, 7, 44, 44, 465, 7, 130, 124});
  CHECK(t.encode("1234567 89") == Ids{779, 19, 20, 21, 22, 23, 221, 24, 25});
  CHECK(t.encode("na\u00efve caf\u00e9 e\u0301") ==
        Ids{78, 65, 128, 108, 382, 283, 1857, 128, 103, 344, 137, 224});
  CHECK(t.encode("\u4e2d\u6587\u5b57\u7b26 \ud55c\uae00 \u05e2\u05d1\u05e8\u05d9\u05ea") ==
        Ids{161, 117, 256, 163, 245, 230, 162, 256, 246, 164, 106, 100, 221, 170, 244,
            251, 167, 117, 223, 221, 148, 96,  148, 240, 148, 102, 148, 248, 148, 104});
  CHECK(t.encode("\U0001f469\u200d\U0001f4bb\U0001f44d\U0001f3fd") ==
        Ids{830, 240, 103, 427, 236, 830, 241, 120, 830, 240, 236, 830, 238, 122});
  CHECK(t.encode("a<|endoftext|>b <|endoftext|><|endoftex") ==
        Ids{65, 0, 66, 221, 0, 28, 92, 484, 79, 855, 428});
  CHECK(t.encode("\r\n\r\n x\r") == Ids{202, 199, 202, 199, 523, 202});
  CHECK(t.encode(std::string("\0\1\x7f", 3)) == Ids{189, 190, 222});
  CHECK(t.encode("\ufeffx") == Ids{172, 120, 124, 88});
  CHECK(t.encode("\u180ex\u0085y\u3000z") == Ids{158, 255, 237, 88, 127, 228, 89, 160, 223, 223, 90});
  CHECK(t.encode("The magic number for apple-river is 1234567 .") ==
        Ids{1278, 299, 553, 302, 1159, 349, 776, 586, 13, 411, 372, 352, 221, 779, 19, 20, 21, 22, 23, 319});
  CHECK(t.vocab_size() == 2048);
  CHECK(t.id_of("<|endoftext|>") == 0);
  CHECK(t.id_of("\u0120the") == t.encode(" the").at(0));
  CHECK(t.id_of("no such token") == -1);
}

TEST_CASE("decoding gives the text back", "[hf][tokenizer]") {
  const Tokenizer t = tiny_llama();
  std::string text = "a<|endoftext|> \u00e9\U0001f44d\r\n\x01";
  for (char32_t c = 0; c < 0x3000; c += 7) append_utf8(text, c);
  CHECK(t.decode(t.encode(text)) == text);
  CHECK(t.decode({}).empty());
  CHECK(t.decode({5000, -1}).empty());  // no such tokens
}

// golden/make_token_ids.py
TEST_CASE("ids of whole texts are the library's, for every model of data/", "[hf][tokenizer]") {
  const fs::path root = BLOCKGTQ_SOURCE_DIR;
  const Json known = read_json(root / "tests/golden/token_ids.json", 1 << 20);
  REQUIRE(known.size() == 2);
  for (const char* model :
       {"tiny-llama", "tiny-llama3", "tiny-mistral", "tiny-qwen2", "tiny-qwen2-gqa8", "tiny-qwen2-hd64",
        "tiny-qwen3", "tiny-qwen3-moe", "tiny-glm", "tiny-deepseek2"}) {
    const Tokenizer t(kModels / model / "tokenizer.json");
    for (const auto& [file, expected] : known.items()) {
      INFO(model << ", " << file);
      const MappedFile text(root / "data/texts" / file);
      Ids ids = t.encode(text.text());
      CHECK(ids.size() == expected["n"].get<size_t>());
      CHECK(hash(ids) == expected["sha256"].get<std::string>());
      CHECK(t.decode(ids) == text.text());
      REQUIRE(ids.size() > 2048);
      ids.resize(2048);
      CHECK(t.encode(text.text(), 2048) == ids);
    }
  }
}

TEST_CASE("the first tokens of a text are those of the whole", "[hf][tokenizer]") {
  ByteTokenizer b;
  b.tokens = {"th", "the", "  "};
  b.merges = {{"t", "h"}, {"th", "e"}, {" ", " "}};
  b.normalizer = R"({"type":"NFC"})";
  b.pre_tokenizer = R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true})";
  b.added_tokens = "[" + added_token(259, "<x>", "x") + "," + added_token(260, "\u00e9t", "n") + "]";
  const Tokenizer t = b.make();
  std::string text;
  for (int i = 0; i < 3000; ++i) text += i % 3 ? "the e\u0301t   <x> " : "the  thee\u0301 9\n";
  const Ids all = t.encode(text);
  REQUIRE(all.size() > 20'000);
  for (const size_t n : {size_t(0), size_t(1), size_t(7), size_t(4095), size_t(4096), size_t(4097),
                         size_t(15'000), all.size() - 1, all.size(), all.size() + 1}) {
    CAPTURE(n);
    const Ids some = t.encode(text, n);
    CHECK(some == Ids(all.begin(), all.begin() + std::ptrdiff_t(std::min(n, all.size()))));
  }
}

TEST_CASE("the number of threads changes nothing", "[hf][tokenizer]") {
  const Tokenizer t = tiny_llama();
  std::string text;
  for (int i = 0; i < 40'000; ++i)
    text += "word" + std::to_string(i * 7919 % 10'007) + (i % 11 ? " the" : ".\n\n");
  set_threads(1);
  const Ids one = t.encode(text);
  for (const int n : {2, 3, 5}) {
    set_threads(n);
    CHECK(t.encode(text) == one);
  }
  set_threads(0);
  CHECK(t.decode(one) == text);
}

TEST_CASE("long runs", "[hf][tokenizer]") {
  const Tokenizer t = tiny_llama();
  const auto start = std::chrono::steady_clock::now();
  for (const char* unit :
       {" ", "a", "\n", " \n", "1", "!", "\u4e2d", "e\u0301", "<|endoftext|>", "<|endoftex"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    CAPTURE(unit);
    CHECK(t.decode(t.encode(text)) == text);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < 20);  // some 1.5 s; anything quadratic would take hours
}

TEST_CASE("text that is not UTF-8 is an error with its offset", "[hf][tokenizer]") {
  const Tokenizer t = tiny_llama();
  const std::pair<std::string, size_t> cases[] = {{"abc\xFF", 3},
                                                  {"\x80", 0},
                                                  {"a\xC3", 1},
                                                  {"a\xC3(", 1},
                                                  {"\xC0\xAF", 0},
                                                  {"\xE0\x80\xAF", 0},
                                                  {"x\xED\xA0\x80", 1},
                                                  {"\xF0\x8F\xBF\xBF", 0},
                                                  {"\xF4\x90\x80\x80", 0},
                                                  {"\xF5\x80\x80\x80", 0},
                                                  {"12345678\xE2\x82", 8},
                                                  {"\u00e9\u4e2d\U0001f600\xC1", 9}};
  for (const auto& [text, offset] : cases) {
    CAPTURE(offset);
    CHECK(find_invalid_utf8(text) == offset);
    CHECK_THROWS_WITH(t.encode(text), ContainsSubstring("at offset " + std::to_string(offset)));
  }
  const std::string good = "a\u007f\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff";
  CHECK(find_invalid_utf8(good) == good.size());
}

TEST_CASE("a tokenizer.json that is not one", "[hf][tokenizer]") {
  const auto load = [](const std::string& json) { return Tokenizer(json, "t.json"); };
  CHECK_THROWS_WITH(load(""), ContainsSubstring("t.json"));
  CHECK_THROWS_WITH(load("[]"), ContainsSubstring("t.json: not a tokenizer"));
  CHECK_THROWS_WITH(load("{}"), ContainsSubstring("t.json: \"model\" is missing"));
  CHECK_THROWS_WITH(load(R"({"version":"2.0"})"),
                    ContainsSubstring("the version is not supported: 2.0, allowed: 1.0"));
  CHECK_THROWS_WITH(load(R"({"model":{"vocab":{"a":0,"a":1},"merges":[]}})"), ContainsSubstring("t.json"));
  ByteTokenizer b;
  b.decoder = R"({"type":"WordPiece"})";
  CHECK_THROWS_WITH(b.make(), ContainsSubstring("t.json: decoder: the type is not supported: WordPiece"));
  b.decoder = "null";
  CHECK_NOTHROW(b.make());
  CHECK_THROWS_WITH(Tokenizer(fs::path("no/such/tokenizer.json")),
                    ContainsSubstring("no/such/tokenizer.json"));
  CHECK(b.make().sha256() == sha256_hex(b.json()));
}

TEST_CASE("the size of a tokenizer.json is limited", "[hf][tokenizer]") {
  ByteTokenizer b;
  std::string json = b.json();
  // White space between the first fields, less at each place than a token may be long.
  for (size_t at = 1; json.size() < kMaxTokenizerBytes;) {
    const size_t n = std::min(kMaxTokenizerBytes - json.size(), size_t(8) << 20);
    json.insert(at, n, ' ');
    at = json.find_first_of(":,", at + n) + 1;
  }
  CHECK_NOTHROW(Tokenizer(json, "t.json"));
  json += ' ';
  CHECK_THROWS_WITH(Tokenizer(json, "t.json"), ContainsSubstring("67108865 bytes, allowed: 67108864"));
}
