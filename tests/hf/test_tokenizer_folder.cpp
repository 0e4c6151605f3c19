// Added tokens that stand in other files than tokenizer.json. Ids are those of transformers 5.24.0
// (PreTrainedTokenizerFast.from_pretrained, add_special_tokens=False), which makes of them what the comments
// say.
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "byte_tokenizer.h"
#include "catch.h"

using namespace blockgtq;

namespace {

using Ids = std::vector<int32_t>;

/// A model's folder with a tokenizer of bytes (so that the first new token is 256), gone at the end.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("blockgtq_tokenizer_" + std::to_string(::getpid()));
  explicit Folder(const std::string& added_tokens = "[]") {
    fs::remove_all(path);
    fs::create_directories(path);
    ByteTokenizer b;
    b.added_tokens = added_tokens;
    write("tokenizer.json", b.json());
  }
  ~Folder() { fs::remove_all(path); }
  const Folder& write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    return *this;
  }
  Ids encode(const std::string& text) const { return open_tokenizer(path).encode(text); }
};

std::string decoder(const std::string& entries) {
  return R"({"added_tokens_decoder":{)" + entries + "}}";
}

/// "7": {..} of an added_tokens_decoder.
std::string entry(int id, const std::string& content, const std::string& flags = "") {
  return "\"" + std::to_string(id) + "\":" + added_token(0, content, flags).replace(0, 8, "{");
}

Ids operator+(Ids a, const std::string& b) {
  for (const char c : b) a.push_back(static_cast<unsigned char>(c));
  return a;
}
Ids operator+(Ids a, int32_t id) {
  a.push_back(id);
  return a;
}

}  // namespace

TEST_CASE("added_tokens_decoder of tokenizer_config.json", "[hf][tokenizer_folder]") {
  const Folder f("[" + added_token(256, "<x>") + "]");
  CHECK(f.encode("<x><y>") == Ids{256} + "<y>");
  f.write("tokenizer_config.json", decoder(entry(257, "<y>")));
  CHECK(f.encode("<x><y>") == Ids{256, 257});
  CHECK(open_tokenizer(f.path).warnings().empty());

  // In the order of their ids; counted on, whatever those are; a token of the vocabulary keeps its own.
  f.write("tokenizer_config.json",
          decoder(entry(300, "<y>") + "," + entry(258, "<z>") + "," + entry(3, "A")));
  CHECK(f.encode("<x><y><z>A") == Ids{256, 258, 257, 65});
  const std::vector<std::string> warnings = open_tokenizer(f.path).warnings();
  REQUIRE(warnings.size() == 1);
  CHECK_THAT(warnings[0],
             ContainsSubstring("\"A\" is 3 there, 65 here, \"<z>\" is 258 there, 257 here, \"<y>\" is"));
  f.write("tokenizer_config.json", decoder(entry(256, "<y>")));  // the id of another token
  CHECK(f.encode("<x><y>") == Ids{256, 257});
}

TEST_CASE("options of tokenizer_config.json count", "[hf][tokenizer_folder]") {
  const Folder f("[" + added_token(256, "<x>") + "," + added_token(257, "<y>", "lx") + "]");
  f.write("tokenizer_config.json", decoder(entry(256, "<x>", "l") + "," + entry(257, "<y>", "x")));
  CHECK(f.encode("a  <x>  <y>") == Ids{'a', 256, ' ', ' ', 257});
  f.write("tokenizer_config.json", decoder(entry(256, "<x>", "s")));
  CHECK(f.encode("a<x>  <y>") == Ids{} + "a<x>" + 257);
}

TEST_CASE("named and listed special tokens", "[hf][tokenizer_folder]") {
  const Folder f;
  f.write(
      "tokenizer_config.json",
      R"({"eos_token":"<x>","bos_token":{"__type":"AddedToken","content":"<y>","lstrip":true,"normalized":false,)"
      R"("rstrip":false,"single_word":false},"pad_token":"ab","unk_token":null,"image_token":"<z>",)"
      R"("chat_template":"<t>","additional_special_tokens":["<q>","b"]})");
  CHECK(f.encode("<q><z>  <y><x>ab<t>") == Ids{260, 259, 256, 257, 258} + "<t>");
  // extra_special_tokens as a list replace additional_special_tokens, as an object they go along.
  f.write("tokenizer_config.json", R"({"additional_special_tokens":["<q>"],"extra_special_tokens":["<x>"]})");
  CHECK(f.encode("<x><q>") == Ids{256} + "<q>");
  f.write("tokenizer_config.json",
          R"({"additional_special_tokens":["<q>"],"extra_special_tokens":{"x_token":"<x>","y":"<y>"}})");
  CHECK(f.encode("<x><y><q>") == Ids{256, 257, 258});
}

TEST_CASE("added_tokens.json and special_tokens_map.json", "[hf][tokenizer_folder]") {
  const Folder f;
  f.write("added_tokens.json", R"({"<w>":265,"<z>":256,"<y>":257})");
  f.write("special_tokens_map.json", R"({"bos_token":"<y>"})");
  CHECK(f.encode("<w><z><y>") == Ids{258, 256, 257});
  f.write("tokenizer_config.json", R"({"eos_token":"<x>"})");
  f.write("special_tokens_map.json",
          R"({"bos_token":"<v>","eos_token":{"content":"<u>","lstrip":true,"normalized":true,"rstrip":false,)"
          R"("single_word":false}})");
  CHECK(f.encode("<x> <u><v>") == Ids{} + "<x>" + 260 + 259);
  // None of them counts beside an added_tokens_decoder.
  f.write("tokenizer_config.json", R"({"eos_token":"<x>","added_tokens_decoder":{}})");
  CHECK(f.encode("<x><y><w><v>") == Ids{256} + "<y><w><v>");

  // An entry with the id of an added token of tokenizer.json does not count; one with another has its
  // options.
  const Folder g("[" + added_token(256, "<w>", "l") + "]");
  g.write("added_tokens.json", R"({"<v>":256})");
  CHECK(g.encode(" <w><v>") == Ids{256} + "<v>");
  g.write("added_tokens.json", R"({"<w>":258,"<v>":257})");
  CHECK(g.encode(" <w><v>") == Ids{' ', 256, 257});
}

TEST_CASE("the signature of a tokenizer covers the other files", "[hf][tokenizer_folder]") {
  const Folder f("[" + added_token(256, "<x>") + "]");
  const std::string alone = open_tokenizer(f.path).sha256();
  CHECK(alone == Tokenizer(f.path / "tokenizer.json").sha256());
  f.write("tokenizer_config.json", decoder(entry(256, "<x>")));
  CHECK(open_tokenizer(f.path).sha256() == alone);
  f.write("tokenizer_config.json", decoder(entry(256, "<x>", "l")));
  const std::string stripped = open_tokenizer(f.path).sha256();
  CHECK(stripped != alone);
  f.write("tokenizer_config.json", decoder(entry(256, "<x>", "r")));
  CHECK(open_tokenizer(f.path).sha256() != stripped);
}

TEST_CASE("files that are wrong", "[hf][tokenizer_folder]") {
  const Folder f;
  const auto refused = [&](const std::string& text, const std::string& message) {
    f.write("tokenizer_config.json", text);
    CHECK_THROWS_WITH(open_tokenizer(f.path),
                      ContainsSubstring("tokenizer_config.json") && ContainsSubstring(message));
  };
  refused("{", "line 1");
  refused("[]", "not an object");
  refused(R"({"added_tokens_decoder":[]})", "not an object");
  refused(R"({"added_tokens_decoder":{"x":{"content":"a"}}})", "not a token id: \"x\"");
  refused(R"({"added_tokens_decoder":{"-1":{"content":"a"}}})", "not a token id: \"-1\"");
  refused(R"({"added_tokens_decoder":{"1":{}}})", "\"content\" is missing");
  refused(R"({"added_tokens_decoder":{"1":{"content":"a","lstrip":1}}})", "\"lstrip\" is not true or false");
  f.write("tokenizer_config.json", "{}").write("added_tokens.json", R"({"a":-1})");
  CHECK_THROWS_WITH(open_tokenizer(f.path),
                    ContainsSubstring("added_tokens.json: the id of \"a\" is out of range: -1"));
}

TEST_CASE("a folder without tokenizer.json says what is there", "[hf][tokenizer_folder]") {
  const Folder f;
  fs::remove(f.path / "tokenizer.json");
  const auto error = [&] {
    try {
      open_tokenizer(f.path);
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      return std::string(e.what()) + "\n" + e.hint;
    }
    return std::string();
  };
  CHECK_THAT(error(), ContainsSubstring(": no tokenizer.json\n--ids FILE"));
  f.write("vocab.json", "{}").write("merges.txt", "");
  CHECK_THAT(error(), ContainsSubstring("no tokenizer.json, only vocab.json and merges.txt") &&
                          ContainsSubstring("save_pretrained"));
  f.write("tokenizer.model", "");
  CHECK_THAT(error(), ContainsSubstring("no tokenizer.json, only tokenizer.model"));
}
