#include "hf/corpus.h"

#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "base/sha256.h"
#include "byte_tokenizer.h"
#include "catch.h"

using namespace blockgtq;

namespace {

using Ids = std::vector<int32_t>;

/// A folder with a tokenizer of bytes, gone at the end.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("blockgtq_corpus_" + std::to_string(::getpid()));
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
    write("tokenizer.json", ByteTokenizer().json());
  }
  ~Folder() { fs::remove_all(path); }
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    return path / name;
  }
};

constexpr int kVocab = 256;

}  // namespace

TEST_CASE("texts one after the other", "[hf][corpus]") {
  const Folder f;
  CorpusSpec spec;
  spec.files = {f.write("a.txt", "abc"), f.write("empty.txt", ""), f.write("b.txt", "defg")};
  spec.n_tokens = 5;
  Corpus c = read_corpus(spec, f.path, kVocab);
  CHECK(c.ids == Ids{'a', 'b', 'c', 'd', 'e'});
  CHECK(c.description == "a.txt, empty.txt, b.txt");
  CHECK(c.sha256 == sha256_hex("abcdefg"));

  spec.skip_tokens = 2;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{'c', 'd', 'e', 'f', 'g'});
  spec.n_tokens = 6;
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab),
                    ContainsSubstring("a.txt, empty.txt, b.txt: too short: 5 tokens, 6 wanted"));
  spec.n_tokens = 0;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{'c', 'd', 'e', 'f', 'g'});
  spec.skip_tokens = 7;
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab),
                    ContainsSubstring("too short: 7 tokens, of which 7 are left out"));
  spec.skip_tokens = 8;
  spec.n_tokens = 1;
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("too short: 0 tokens, 1 wanted"));
  spec = {};
  spec.files = {f.path / "a.txt"};
  spec.n_tokens = 3;
  CHECK(read_corpus(spec, f.path, kVocab).description == "a.txt");
}

TEST_CASE("the first-token id", "[hf][corpus]") {
  const Folder f;
  CorpusSpec spec;
  spec.files = {f.write("a.txt", "abcd")};
  spec.n_tokens = 3;
  spec.bos = true;
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("no bos_token_id"));
  f.write("config.json", R"({"bos_token_id":7})");
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{7, 'a', 'b'});  // one of the three
  f.write("generation_config.json", R"({"bos_token_id":null})");
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{7, 'a', 'b'});
  f.write("generation_config.json", R"({"bos_token_id":9})");
  spec.skip_tokens = 2;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{9, 'c', 'd'});
  spec.n_tokens = 0;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{9, 'c', 'd'});
  spec.n_tokens = 1;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{9});
  // In windows: the same tokens, and the id in place of the first of every window.
  spec.skip_tokens = 0;
  spec.n_tokens = 0;
  for (const auto& [window, expected] : {std::pair<int64_t, Ids>{0, {9, 'a', 'b', 'c', 'd'}},
                                         {2, {9, 'a', 9, 'c', 9}},
                                         {4, {9, 'a', 'b', 'c', 9}},
                                         {5, {9, 'a', 'b', 'c', 'd'}}}) {
    spec.window = window;
    CHECK(read_corpus(spec, f.path, kVocab).ids == expected);
  }
  spec.bos = false;
  spec.window = 2;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{'a', 'b', 'c', 'd'});
  spec.bos = true;
  for (const char* bad : {"256", "-1", "[1]", "\"1\"", "1.5"}) {
    CAPTURE(bad);
    f.write("generation_config.json", std::string(R"({"bos_token_id":)") + bad + "}");
    CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("bos_token_id is not a token id"));
  }
}

TEST_CASE("texts that are wrong", "[hf][corpus]") {
  const Folder f;
  CorpusSpec spec;
  spec.n_tokens = 2;
  spec.files = {f.write("bad.txt", "ab\xC3\xA9 and 12345678901234567890\xFFtail")};
  const std::string name = (f.path / "bad.txt").string();
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab),
                    ContainsSubstring(name + ": not UTF-8: byte 0xFF at offset 29"));
  // The second text is checked though the first has tokens enough.
  spec.files = {f.write("good.txt", "abcdef"), f.path / "bad.txt"};
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("not UTF-8"));
  spec.files = {f.path / "none.txt"};
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("none.txt"));
  spec.files = {f.path / "good.txt"};
  CHECK_NOTHROW(read_corpus(spec, f.path, 'b' + 1));
  CHECK_THROWS_WITH(read_corpus(spec, f.path, 'b'),
                    ContainsSubstring("a token the model does not have: 98, allowed: 0..97"));
  spec.ids = f.write("ids", "1");
  CHECK_THROWS_AS(read_corpus(spec, f.path, kVocab), Error);
  CHECK_THROWS_AS(read_corpus(CorpusSpec{}, f.path, kVocab), Error);
  spec = {};
  spec.files = {f.path / "good.txt"};
  spec.n_tokens = -1;
  CHECK_THROWS_AS(read_corpus(spec, f.path, kVocab), Error);
}

TEST_CASE("the size of the texts is limited", "[hf][corpus]") {
  const Folder f;
  const fs::path large = f.write("large.txt", "\xFF");
  fs::resize_file(large, kMaxCorpusBytes);  // a hole: no disk space
  CorpusSpec spec;
  spec.files = {large};
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("not UTF-8: byte 0xFF at offset 0"));
  spec.files = {large, f.write("one.txt", "y")};
  CHECK_THROWS_WITH(
      read_corpus(spec, f.path, kVocab),
      ContainsSubstring("one.txt: the texts are too large: 1073741825 bytes, allowed: 1073741824"));
  fs::resize_file(large, kMaxCorpusBytes + 1);
  spec.files = {large};
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("1073741825 bytes"));
}

TEST_CASE("token ids instead of text", "[hf][corpus]") {
  const Folder f;
  CorpusSpec spec;
  spec.n_tokens = 4;
  spec.ids = f.write("ids.txt", "1 2,3\r\n\t255\n\n0,\n");
  Corpus c = read_corpus(spec, f.path, kVocab);
  CHECK(c.ids == Ids{1, 2, 3, 255});
  CHECK(c.description == "ids.txt");
  CHECK(c.sha256 == sha256_hex("1 2,3\r\n\t255\n\n0,\n"));
  spec.n_tokens = 0;
  spec.skip_tokens = 3;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{255, 0});
  spec.skip_tokens = 0;
  spec.n_tokens = 6;
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab),
                    ContainsSubstring("ids.txt: too short: 5 tokens, 6 wanted"));

  spec.n_tokens = 1;
  const std::pair<const char*, const char*> bad[] = {
      {"1\n2\n256\n", "line 3: the token id is out of range: 256, allowed: 0..255"},
      {"1\n-1", "line 2: the token id is out of range: -1"},
      {"99999999999999999999", "line 1: the token id is out of range"},
      {"1 2\n\n3 x4", "line 3: not a token id: \"x4\""},
      {"1\n2.5", "line 2: not a token id: \"2.5\""},
      {"0x10", "line 1: not a token id"},
      {"+1", "line 1: not a token id"}};
  for (const auto& [text, message] : bad) {
    CAPTURE(text);
    f.write("ids.txt", text);
    CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring(message));
  }
}
