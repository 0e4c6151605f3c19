#include "hf/corpus.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/sha256.h"
#include "byte_tokenizer.h"
#include "catch.h"
#include "hf/text_source.h"

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
  for (const int64_t n_tokens :
       {0, 29, 30, 1000}) {  // 29 tokens are there, but who knows what the next would be
    spec.n_tokens = n_tokens;
    CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab),
                      ContainsSubstring(name + ": not UTF-8: byte 0xFF at offset 29"));
  }
  // What is wrong behind the tokens that are asked for does not matter.
  spec.n_tokens = 28;
  CHECK(read_corpus(spec, f.path, kVocab).ids.size() == 28);
  spec.n_tokens = 2;
  spec.files = {f.write("good.txt", "abcdef"), f.path / "bad.txt"};
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{'a', 'b'});
  spec.n_tokens = 7;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{'a', 'b', 'c', 'd', 'e', 'f', 'a'});
  spec.n_tokens = 36;
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("not UTF-8"));
  spec.n_tokens = 2;
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

TEST_CASE("of texts over 1 GiB the first is used", "[hf][corpus]") {
  const Folder f;
  const fs::path large = f.write("large.txt", "abc\xFF");
  fs::resize_file(large, kMaxCorpusBytes + 1);  // a hole: no disk space
  CorpusSpec spec;
  spec.files = {large};
  spec.n_tokens = 2;
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{'a', 'b'});
  spec.n_tokens = 4;  // three before the bad byte
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab), ContainsSubstring("not UTF-8: byte 0xFF at offset 3"));
  f.write("large.txt", "");
  fs::resize_file(large, kMaxCorpusBytes + 1);
  spec.n_tokens = 0;
  CHECK_THROWS_WITH(read_corpus(spec, f.path, kVocab),
                    ContainsSubstring("large.txt: the texts are too large: more than the 1073741824 bytes"));
}

TEST_CASE("a text from a pipe", "[hf][corpus]") {
  const Folder f;
  const fs::path pipe = f.path / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  // Larger than a pipe holds, so that it is read in several goes.
  std::string text(300000, 'x');
  text.back() = 'y';
  std::thread writer([&] { std::ofstream(pipe, std::ios::binary) << text; });
  CorpusSpec spec;
  spec.files = {pipe};
  spec.n_tokens = 0;
  const Corpus c = read_corpus(spec, f.path, kVocab);
  writer.join();
  CHECK(c.ids.size() == text.size());
  CHECK(c.ids.back() == 'y');
  CHECK(c.sha256 == sha256_hex(text));
  CHECK(c.description == "a pipe");
}

TEST_CASE("no more of a text is read than may be used", "[hf][corpus]") {
  const Folder f;
  const fs::path file = f.write("text", "0123456789");
  for (const size_t most : {9, 10, 11}) {
    const TextSource source(file, most);
    CHECK(source.text() == std::string("0123456789").substr(0, most));
    CHECK(source.is_cut() == (most < 10));
  }
  // A device that never ends.
  const TextSource zeros("/dev/zero", 100000);
  CHECK(zeros.text() == std::string(100000, '\0'));
  CHECK(zeros.is_cut());
  const TextSource nothing("/dev/null", 10);
  CHECK(nothing.text().empty());
  CHECK_FALSE(nothing.is_cut());
  CHECK_THROWS_WITH(TextSource(f.path, 10), ContainsSubstring("it is a folder"));
  CHECK_THROWS_WITH(TextSource(f.path / "none", 10), ContainsSubstring("cannot open"));
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
  f.write("ids.txt", "1\n2 x4");  // what is wrong behind the ids that are asked for does not matter
  CHECK(read_corpus(spec, f.path, kVocab).ids == Ids{1});
  spec.n_tokens = 0;
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

TEST_CASE("the last-token ids: one, a list, those of another vocabulary left out", "[hf][corpus]") {
  const Folder f;
  f.write("config.json", R"({"eos_token_id": 7})");
  CHECK(last_token_ids(f.path, 100) == std::vector<int32_t>{7});
  f.write("generation_config.json", R"({"eos_token_id": [3, 151329, 99]})");
  CHECK(last_token_ids(f.path, 100) == std::vector<int32_t>{3, 99});
  f.write("generation_config.json", R"({"eos_token_id": null})");
  CHECK(last_token_ids(f.path, 100) == std::vector<int32_t>{7});
  f.write("config.json", "{}");
  CHECK(last_token_ids(f.path, 100).empty());
  f.write("generation_config.json", R"({"eos_token_id": "</s>"})");
  CHECK_THROWS_WITH(last_token_ids(f.path, 100), ContainsSubstring("eos_token_id is not a token id"));
}
