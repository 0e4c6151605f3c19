#include <chrono>

#include "base/error.h"
#include "byte_tokenizer.h"
#include "catch.h"
#include "hf/bpe.h"
#include "hf/word_cache.h"

using namespace blockgtq;

namespace {

using Words = std::vector<std::string>;
using Ids = std::vector<int32_t>;

ByteTokenizer letters() {
  ByteTokenizer b;
  b.tokens = {"ab", "bc", "abc", "aa", "aaaa", "bcd"};
  b.merges = {{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "aa"}, {"ab", "c"}, {"bc", "d"}};
  return b;
}

}  // namespace

TEST_CASE("merges go by rank, then from the left", "[hf][bpe]") {
  const Tokenizer t = letters().make();
  CHECK(words(t, "abc") == Words{"a", "bc"});
  CHECK(words(t, "ababc") == Words{"ab", "a", "bc"});
  CHECK(words(t, "aaaaa") == Words{"aaaa", "a"});
  CHECK(words(t, "aaaaaaa") == Words{"aaaa", "aa", "a"});
  CHECK(words(t, "abcd") == Words{"a", "bcd"});
  CHECK(words(t, "") == Words{});
  CHECK(words(t, "\xC3\xA9") == Words{"\xC3", "\xA9"});
}

TEST_CASE("merges as text are the same merges", "[hf][bpe]") {
  ByteTokenizer b = letters();
  b.merges_as_text = true;
  CHECK(words(b.make(), "ababcd") == Words{"ab", "a", "bcd"});
}

TEST_CASE("ignore_merges takes a whole word that is a token", "[hf][bpe]") {
  ByteTokenizer b = letters();
  b.model_options = R"("ignore_merges":true,)";
  CHECK(words(b.make(), "abc") == Words{"abc"});
  CHECK(words(b.make(), "abca") == Words{"a", "bc", "a"});
}

TEST_CASE("bytes without a token", "[hf][bpe]") {
  const auto json = [](const std::string& options) {
    return R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":false,"trim_offsets":true},"model":{)" +
           options + R"("vocab":{"a":1,"b":5,"?":9,"ab":7},"merges":["a b"]}})";
  };
  CHECK(Tokenizer(json(""), "t").encode("axb") == Ids{7});  // dropped, and what is left merges
  CHECK(Tokenizer(json(R"("unk_token":"?",)"), "t").encode("axxb") == Ids{1, 9, 9, 5});
  CHECK(Tokenizer(json(R"("unk_token":"?","fuse_unk":true,)"), "t").encode("axxbx") == Ids{1, 9, 5, 9});
  CHECK(Tokenizer(json(""), "t").vocab_size() == 10);
  CHECK_THROWS_WITH(Tokenizer(json(R"("unk_token":"!",)"), "t"),
                    ContainsSubstring("unk_token is not in the vocabulary"));
}

TEST_CASE("characters are the symbols where there is no ByteLevel", "[hf][bpe]") {
  const Tokenizer t(R"({"pre_tokenizer":null,"model":{"vocab":{"\u00e9":0," ":1,"\u00e9 ":2},)"
                    R"("merges":[["\u00e9"," "]]}})",
                    "t");
  CHECK(t.encode("\u00e9 \u00e9x ") == Ids{2, 2});  // x is dropped
  CHECK(t.decode({0, 1}) == "\u00e9  ");            // no decoder: tokens with spaces between
}

TEST_CASE("symbols without a token fall back to bytes", "[hf][bpe]") {
  const auto json = [](const std::string& options, const std::string& more = "") {
    return R"({"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"never","split":false},)"
           R"("model":{"byte_fallback":true,)" +
           options + R"("vocab":{"?":0,"a":1,"b":2,"ab":3,"<0xC3>":4,"<0xA9>":5)" + more +
           R"(},"merges":["a b"]}})";
  };
  const std::string unknown = R"("unk_token":"?",)", fused = unknown + R"("fuse_unk":true,)";
  CHECK(Tokenizer(json(unknown), "t").encode("ab\u00e9a") == Ids{3, 4, 5, 1});
  CHECK(Tokenizer(json(unknown), "t").encode("a\u00e8\u00e8") ==
        Ids{1, 0, 0});  // one byte of it has no token
  CHECK(Tokenizer(json(fused), "t").encode("\u00e8xb") == Ids{0, 2});
  // As in the library, bytes overtake an unknown symbol that waits for its like.
  CHECK(Tokenizer(json(fused), "t").encode("a\u00e8\u00e9xb") == Ids{1, 4, 5, 0, 2});
  CHECK(Tokenizer(json(unknown), "t").encode("\u00e8\u00e9xb") == Ids{4, 5, 0, 0, 2});
  CHECK(Tokenizer(json(""), "t").encode("a\u00e8b\u00e9") == Ids{3, 4, 5});  // dropped
  // A space is U+2581, also as bytes.
  CHECK(Tokenizer(json(unknown, R"(,"\u2581":6)"), "t").encode("a \u2581") == Ids{1, 6, 6});
  CHECK(Tokenizer(json(unknown, R"(,"<0xE2>":6,"<0x96>":7,"<0x81>":8,"<0x20>":9)"), "t").encode("a ") ==
        Ids{1, 6, 7, 8});
}

TEST_CASE("a long word is cut where no merge can join", "[hf][bpe]") {
  // Tokens reach across the space, so that "x y" is joined and "y x" is not.
  const auto tokenizer = [](const std::string& options) {
    return Tokenizer(R"({"model":{)" + options +
                         R"("vocab":{"x":0,"y":1," ":2,"x ":3,"x y":4," y":5,"yx":6,"?":7},)"
                         R"("merges":[["x"," "],["x ","y"]]}})",
                     "t");
  };
  std::string text, unknown_text;
  Ids expected, with_unknown;
  for (int i = 0; i < 1000; ++i) {
    text += "x yx x";
    for (const int32_t id : {4, 3, 0}) expected.push_back(id);
    unknown_text += "x yzz";
    for (const int32_t id : {4, 7}) with_unknown.push_back(id);
  }
  CHECK((tokenizer("").encode(text) == expected));
  CHECK((tokenizer(R"("ignore_merges":true,)").encode(text) == expected));  // "yx" is part of a word, not one
  CHECK((tokenizer(R"("unk_token":"?","fuse_unk":true,)").encode(unknown_text) == with_unknown));
  CHECK((tokenizer("").encode(text, 1000) == Ids(expected.begin(), expected.begin() + 1000)));
}

TEST_CASE("models that are not supported are refused by name", "[hf][bpe]") {
  ByteTokenizer b = letters();
  const auto refused = [&](const std::string& options, const std::string& message) {
    b.model_options = options;
    CHECK_THROWS_WITH(b.make(), ContainsSubstring("t.json: model: ") && ContainsSubstring(message));
  };
  refused(R"("byte_fallback":1,)", "\"byte_fallback\" is not true or false");
  refused(R"("dropout":0.1,)", "dropout is not supported: 0.1");
  refused(R"("continuing_subword_prefix":"##",)", "continuing_subword_prefix is not supported: \"##\"");
  refused(R"("end_of_word_suffix":"</w>",)", "end_of_word_suffix is not supported");
  refused(R"("ignore_merges":1,)", "\"ignore_merges\" is not true or false");
  b.model_options =
      R"("dropout":null,"continuing_subword_prefix":"","end_of_word_suffix":null,"byte_fallback":false,)";
  CHECK_NOTHROW(b.make());

  const auto model = [](const std::string& text) { return Tokenizer(R"({"model":)" + text + "}", "t.json"); };
  CHECK_THROWS_WITH(model(R"({"type":"WordPiece","vocab":{},"merges":[]})"),
                    ContainsSubstring("WordPiece, allowed: BPE"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":0}})"), ContainsSubstring("\"merges\" is missing"));
  CHECK_THROWS_WITH(model(R"({"vocab":{},"merges":[]})"), ContainsSubstring("\"vocab\" is empty"));
  CHECK_THROWS_WITH(model(R"({"vocab":[],"merges":[]})"), ContainsSubstring("\"vocab\" is not an object"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":0,"b":0},"merges":[]})"),
                    ContainsSubstring("two tokens have the id 0"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":-1},"merges":[]})"), ContainsSubstring("out of range: -1"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":1.5},"merges":[]})"), ContainsSubstring("out of range: 1.5"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":0},"merges":{}})"),
                    ContainsSubstring("\"merges\" is not an array"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":0},"merges":["a"]})"),
                    ContainsSubstring("merge 0 is not two tokens"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":0},"merges":["a a a"]})"),
                    ContainsSubstring("merge 0 is not two tokens"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":0},"merges":[["a"]]})"), ContainsSubstring("merge 0 is neither"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":0},"merges":["a b"]})"),
                    ContainsSubstring("not in the vocabulary: \"b\""));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":0},"merges":["a a"]})"),
                    ContainsSubstring("not in the vocabulary: \"aa\""));
  CHECK_NOTHROW(model(R"({"vocab":{"a":0,"aa":4194304},"merges":["#version: 0.2","a a"]})"));
  CHECK_THROWS_WITH(model(R"({"vocab":{"a":4194305},"merges":[]})"),
                    ContainsSubstring("4194305, allowed: 0..4194304"));
}

TEST_CASE("one long word takes n log n", "[hf][bpe]") {
  ByteTokenizer b;
  std::string token = "a";
  for (int i = 0; i < 10; ++i) {
    b.merges.push_back({token, token});
    b.tokens.push_back(token += token);
  }
  const Tokenizer t = b.make();
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = t.encode(std::string(1'000'000, 'a'));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(ids.size() == 976 + 2);  // 1000000 = 976 * 1024 + 576, 576 = 512 + 64
  CHECK(seconds < 4);            // some 0.3 s; a quadratic algorithm would take half an hour
}

TEST_CASE("the cache of words gives back what was put in", "[hf][bpe]") {
  WordCache cache;
  CHECK(cache.find("x").data() == nullptr);
  const size_t n = WordCache::kMaxWords + 10;
  for (size_t i = 0; i < n; ++i) cache.insert(std::to_string(i), Ids{int32_t(i), 7});
  bool same = true;
  for (size_t i = 0; i < WordCache::kMaxWords; ++i) {
    const auto ids = cache.find(std::to_string(i));
    same = same && ids.size() == 2 && ids[0] == int32_t(i) && ids[1] == 7;
  }
  CHECK(same);
  CHECK(cache.find(std::to_string(n - 1)).data() == nullptr);  // full
  const std::string longest(WordCache::kMaxWordBytes, 'w');
  WordCache fresh;
  fresh.insert(longest, Ids{1});
  fresh.insert(longest + "w", Ids{2});
  CHECK(fresh.find(longest).size() == 1);
  CHECK(fresh.find(longest + "w").data() == nullptr);
}
