// Added tokens inside text. Expectations are those of the `tokenizers` library.
#include <chrono>

#include "base/error.h"
#include "byte_tokenizer.h"
#include "catch.h"
#include "hf/added_tokens.h"

using namespace blockgtq;

namespace {

using Words = std::vector<std::string>;

/// Ids of added tokens in the text, bytes elsewhere as -1.
std::vector<int32_t> found(const std::string& tokens, const std::string& text,
                           const std::string& normalizer = "null") {
  ByteTokenizer b;
  b.added_tokens = "[" + tokens + "]";
  b.normalizer = normalizer;
  std::vector<int32_t> ids = b.make().encode(text);
  for (int32_t& id : ids)
    if (id < 256) id = -1;
  return ids;
}

using Ids = std::vector<int32_t>;

}  // namespace

TEST_CASE("the leftmost, of these the longest", "[hf][added_tokens]") {
  const std::string tokens = added_token(256, "<|im|>") + "," + added_token(257, "<|im") + "," +
                             added_token(258, "im|>x") + "," + added_token(259, "ab") + "," +
                             added_token(260, "abcd");
  CHECK(found(tokens, "<|im|>x") == Ids{256, -1});
  CHECK(found(tokens, "<|im|") == Ids{257, -1});
  CHECK(found(tokens, "<im|>x") == Ids{-1, 258});
  CHECK(found(tokens, "abcabcd") == Ids{259, -1, 260});
  CHECK(found(tokens, "<|i<|im|><|im") == Ids{-1, -1, -1, 256, 257});
  CHECK(found(tokens, "") == Ids{});
}

TEST_CASE("single_word, lstrip, rstrip", "[hf][added_tokens]") {
  const std::string word = added_token(256, "word", "s");
  CHECK(found(word, "word") == Ids{256});
  CHECK(found(word, "a word.") == Ids{-1, -1, 256, -1});
  CHECK(found(word, "word\u00e9") == Ids(6, -1));
  CHECK(found(word, "_word") == Ids(5, -1));
  CHECK(found(word, "word\u200d") == Ids(7, -1));  // a joiner is a word character
  CHECK(found(word, "word\u200b") == Ids{256, -1, -1, -1});
  CHECK(found(word, "wordword word") == Ids{-1, -1, -1, -1, -1, -1, -1, -1, -1, 256});

  const std::string strip = added_token(256, "<l>", "l") + "," + added_token(257, "<r>", "r") + "," +
                            added_token(258, "<b>", "lr") + "," + added_token(259, "  ");
  CHECK(found(strip, "a \t<l> b") == Ids{-1, 256, -1, -1});
  CHECK(found(strip, "a <r>\u3000\n b") == Ids{-1, -1, 257, -1});
  CHECK(found(strip, " <b> <b> ") == Ids{258, 258});
  CHECK(found(strip, "<r> <l>") == Ids{257, 256});
  CHECK(found(strip, "<r>  x") == Ids{257, 259, -1});  // a token in the space the one before took
  CHECK(found(strip, "\u180e<l>") == Ids{-1, -1, -1, 256});
}

TEST_CASE("normalized tokens are looked for in the normalized text, after the others", "[hf][added_tokens]") {
  const std::string nfc = R"({"type":"NFC"})";
  // U+1EB9 is e with U+0323, U+1EE5 is u with it.
  const std::string tokens = added_token(256, "\u1eb9", "n") + "," + added_token(257, "e\u0323x") + "," +
                             added_token(258, "u\u0323", "n");
  CHECK(found(tokens, "e\u0323 \u1eb9", nfc) == Ids{256, -1, 256});
  CHECK(found(tokens, "e\u0323x", nfc) == Ids{257});
  CHECK(found(tokens, "\u1eb9x", nfc) == Ids{256, -1});
  CHECK(found(tokens, "\u1ee5", nfc) == Ids{258});
  CHECK(found(tokens, "e\u0323", "null") == Ids{-1, -1, -1});
}

TEST_CASE("ids of added tokens", "[hf][added_tokens]") {
  ByteTokenizer b;
  b.tokens = {"th"};
  b.added_tokens = "[" + added_token(257, "<x>", "x") + "," + added_token(256, "th") + "," +
                   added_token(65, "A") + "," + added_token(258, "<y>") + "," + added_token(9, "") + "]";
  const Tokenizer t = b.make();
  CHECK(t.encode("th<y>A<x>") == Ids{256, 258, 65, 257});
  CHECK(t.vocab_size() == 259);
  CHECK(t.id_of("<x>") == 257);
  CHECK(t.id_of("th") == 256);
  CHECK(t.id_of("\u0120") == 32);
  CHECK(t.id_of(" ") == -1);
  CHECK(t.decode({257, 256, 1000, 32, 258}) == "<x>th <y>");

  b.added_tokens = "[" + added_token(258, "<x>") + "]";
  CHECK_THROWS_WITH(b.make(), ContainsSubstring("t.json: added_tokens: the id of \"<x>\"") &&
                                  ContainsSubstring("258, expected: 257"));
  b.added_tokens = "[" + added_token(257, "\u1eb9", "n") + "," + added_token(258, "e\u0323", "n") + "]";
  CHECK_NOTHROW(b.make());
  b.normalizer = R"({"type":"NFC"})";
  CHECK_THROWS_WITH(b.make(), ContainsSubstring("two tokens are the same once normalized"));
  b.added_tokens = R"([{"id":257,"content":"x"}])";
  CHECK_THROWS_WITH(b.make(), ContainsSubstring("\"single_word\" is missing"));
  b.added_tokens = R"([{"id":257,"content":7}])";
  CHECK_THROWS_WITH(b.make(), ContainsSubstring("\"content\" is not a string"));
  b.added_tokens = "{}";
  CHECK_THROWS_WITH(b.make(), ContainsSubstring("not an array"));
}

TEST_CASE("new ids count from the number of tokens, not from the largest id", "[hf][added_tokens]") {
  const std::string model = R"(,"pre_tokenizer":null,"model":{"vocab":{"a":0,"b":10,"c":20},"merges":[]}})";
  const Tokenizer t(R"({"added_tokens":[)" + added_token(10, "b") + "," + added_token(3, "<x>") + "," +
                        added_token(20, "c") + "," + added_token(4, "<y>") + "]" + model,
                    "t");
  CHECK(t.encode("<x><y>abc") == Ids{3, 4, 0, 10, 20});
}

TEST_CASE("the length of an added token is limited", "[hf][added_tokens]") {
  ByteTokenizer b;
  const std::string longest(kMaxAddedTokenBytes, 'q');
  b.added_tokens = "[" + added_token(256, longest) + "]";
  CHECK(b.make().encode("a" + longest + "b") == Ids{'a', 256, 'b'});
  b.added_tokens = "[" + added_token(256, longest + "q") + "]";
  CHECK_THROWS_WITH(b.make(), ContainsSubstring("4097 bytes, allowed: 4096"));

  std::string all;  // as many of them as are allowed together
  for (size_t i = 0; i < kMaxAddedTokensBytes / kMaxAddedTokenBytes; ++i) {
    std::string content = std::to_string(i) + ".";
    content.resize(kMaxAddedTokenBytes, 'q');
    all += (i ? "," : "") + added_token(int(256 + i), content);
  }
  b.added_tokens = "[" + all + "]";
  CHECK_NOTHROW(b.make());
  b.added_tokens = "[" + all + "," + added_token(256 + 1024, "?!") + "]";
  CHECK_THROWS_WITH(b.make(), ContainsSubstring("too long: 4194306 bytes, allowed: 4194304"));
}

TEST_CASE("tokens are found in linear time", "[hf][added_tokens]") {
  const auto start = std::chrono::steady_clock::now();
  const size_t n = 400'000;
  // A token that nearly fits everywhere, and one that stops the search at every byte.
  const std::string nearly = std::string(kMaxAddedTokenBytes - 1, 'a') + "b";
  CHECK((found(added_token(256, nearly) + "," + added_token(257, "aa"), std::string(n, 'a')) ==
         Ids(n / 2, 257)));
  CHECK((found(added_token(256, nearly), std::string(n, 'a') + "b") == [&] {
    Ids ids(n - (kMaxAddedTokenBytes - 1), -1);
    ids.push_back(256);
    return ids;
  }()));
  // Every second space is a token that takes all white space behind it.
  CHECK((found(added_token(256, "  ", "r"), std::string(n, ' ')) == Ids(n / 2, 256)));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < 10);  // some 0.2 s; a search from every byte would take minutes
}

TEST_CASE("tokens across the blocks of the search", "[hf][added_tokens]") {
  const std::string tokens =
      added_token(256, "<begin>") + "," + added_token(257, "begin") + "," + added_token(258, "<begin");
  for (size_t before = 65'520; before < 65'550; ++before) {
    CAPTURE(before);
    const Ids ids = found(tokens, std::string(before, 'x') + "<begin>begin<begin");
    REQUIRE(ids.size() == before + 3);
    CHECK(Ids(ids.end() - 3, ids.end()) == Ids{256, 257, 258});
  }
}
