// Named limits of what models' files may say, at N and N + 1, and what would take memory or time without
// bound.
#include <sys/stat.h>

#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "byte_tokenizer.h"
#include "catch.h"
#include "hf/chat_format.h"
#include "hf/checkpoint.h"
#include "hf/decoder.h"
#include "hf/gguf_builder.h"
#include "hf/gguf_tokenizer.h"
#include "hf/model_files.h"
#include "hf/pattern.h"
#include "hf/text_source.h"
#include "hf/tokenizer_json.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

const fs::path kLlama = fs::path(BLOCKGTQ_SOURCE_DIR) / "data/models/tiny-llama";

std::string refusal(const ByteTokenizer& b) {
  return expect_error(Exit::input, [&] { b.make(); });
}

/// n times `part`, in a sequence under `key`.
std::string sequence(const char* key, const std::string& part, size_t n) {
  std::string list;
  for (size_t i = 0; i < n; ++i) list += (i ? "," : "") + part;
  return R"({"type":"Sequence",")" + std::string(key) + "\":[" + list + "]}";
}

std::string replace(const std::string& what, const std::string& content) {
  return R"({"type":"Replace","pattern":{"String":")" + what + R"("},"content":")" + content + "\"}";
}

/// Of a processor: other programs of this machine do not count.
double seconds_of(const std::function<void()>& body) {
  const std::clock_t begin = std::clock();
  body();
  return double(std::clock() - begin) / CLOCKS_PER_SEC;
}

}  // namespace

TEST_CASE("64 parts of a tokenizer's stage are taken, 65 are not", "[hf][limits]") {
  for (const size_t n : {64, 65}) {
    ByteTokenizer normalizer, pretokenizer, decoder;
    normalizer.normalizer = sequence("normalizers", R"({"type":"NFC"})", n);
    pretokenizer.pre_tokenizer = sequence("pretokenizers", R"({"type":"Punctuation"})", n);
    decoder.decoder = sequence("decoders", R"({"type":"Fuse"})", n);
    for (const ByteTokenizer* b : {&normalizer, &pretokenizer, &decoder}) {
      if (n == 64)
        CHECK_NOTHROW(b->make());
      else
        CHECK_THAT(refusal(*b), ContainsSubstring("too many parts: more than 64"));
    }
  }
}

TEST_CASE("a pattern has 16 KiB", "[hf][limits]") {
  for (const std::string kind : {"Regex", "String"})
    for (const size_t n : {kMaxPatternBytes, kMaxPatternBytes + 1}) {
      ByteTokenizer b;
      // In a set, where PCRE2 keeps few bytes of them.
      const std::string text = kind == "Regex" ? "[" + std::string(n - 2, 'a') + "]" : std::string(n, 'a');
      b.normalizer = R"({"type":"Replace","pattern":{")" + kind + "\":\"" + text + R"("},"content":""})";
      if (n == kMaxPatternBytes)
        CHECK_NOTHROW(b.make());
      else
        CHECK_THAT(refusal(b), ContainsSubstring("the pattern is too long: 16385 bytes, allowed: 16384"));
    }
}

TEST_CASE("a match of a pattern has 64 MiB", "[hf][limits]") {
  const size_t most = size_t(64) << 20;
  const Pattern pattern(to_pcre2("a+", "p"), "p");
  for (const size_t n : {most, most + 1}) {
    const std::string text(n, 'a');
    Matches matches(pattern);
    matches.start(text);
    size_t begin = 0, end = 0;
    if (n == most)
      CHECK((matches.next(begin, end) && end == most));
    else
      CHECK_THAT(expect_error(Exit::input, [&] { matches.next(begin, end); }),
                 ContainsSubstring(
                     "p: the pattern matches more than 67108864 bytes, from 0 bytes into a segment on"));
  }
}

TEST_CASE("no stage makes more than 64 times of a text, and 4096 bytes", "[hf][limits]") {
  const std::string text(100, 'a');
  const size_t most = kMaxGrowth * text.size() + kMinGrowth;  // 10496
  ByteTokenizer b;
  for (const size_t content : {most, most + 1}) {
    b.normalizer =
        R"({"type":"Replace","pattern":{"Regex":"a+"},"content":")" + std::string(content, 'b') + "\"}";
    if (content == most)
      CHECK(b.make().encode(text).size() == most);
    else
      CHECK_THAT(expect_error(Exit::input, [&] { b.make().encode(text); }),
                 ContainsSubstring("normalizer: makes too much of a text of 100 bytes: more than 10496"));
  }
  // 2^64 letters of one.
  b.normalizer = sequence("normalizers", replace("a", "aa"), 64);
  CHECK_THAT(expect_error(Exit::input, [&] { b.make().encode("a"); }), ContainsSubstring("makes too much"));
  b.normalizer = R"({"type":"Prepend","prepend":")" + std::string(5000, 'a') + "\"}";
  CHECK_THAT(expect_error(Exit::input, [&] { b.make().encode("a"); }), ContainsSubstring("makes too much"));

  b.normalizer = "null";
  b.decoder = replace("a", std::string(65, 'a'));
  CHECK_THAT(refusal(b),
             ContainsSubstring("decoder: Replace of 1 bytes by 65, allowed: 16384 by 64 times as many"));
  b.decoder = sequence("decoders", replace("a", std::string(64, 'a')), 2);
  CHECK(b.make().decode({'a'}).size() == 64 * 64);  // of 4160
  b.decoder = sequence("decoders", replace("a", std::string(64, 'a')), 3);
  CHECK_THAT(expect_error(Exit::input, [&] { b.make().decode({'a'}); }),
             ContainsSubstring("decoder: makes too much of 1 tokens: more than 4160 bytes"));
}

TEST_CASE("a chat template has 128 KiB", "[hf][limits]") {
  const std::string known = "<|im_start|><|im_end|>";
  for (const size_t n : {kMaxChatTemplateBytes, kMaxChatTemplateBytes + 1}) {
    const std::string text = known + std::string(n - known.size(), ' ');
    if (n == kMaxChatTemplateBytes)
      CHECK(chat_format(text, "", "t").family == "ChatML");
    else
      CHECK_THAT(expect_error(Exit::input, [&] { chat_format(text, "", "t"); }),
                 ContainsSubstring("t: the chat template is too long: 131073 bytes, allowed: 131072"));
  }
  // One that begins a system text again and again, and ends none.
  std::string many = known;
  while (many.size() + 20 < kMaxChatTemplateBytes) many += "<|im_start|>system\n";
  CHECK(seconds_of([&] { chat_format(many, "", "t"); }) < 5);
}

TEST_CASE("a template's name may be of any type", "[hf][limits]") {
  const TempFolder dir;
  put_file(dir / "tokenizer_config.json",
           R"({"chat_template": [{"name": 1, "template": "x"}, {"template": 2}, 3,
               {"name": "default", "template": "<|im_start|><|im_end|>"}]})");
  CHECK(open_chat_format(dir.path()).family == "ChatML");
}

TEST_CASE("files that cannot be looked at are input errors", "[hf][limits]") {
  const TempFolder dir;
  const auto circle = [&](const char* name) { fs::create_symlink(name, dir / name); };
  circle("tokenizer.json");
  CHECK_THAT(expect_error(Exit::input, [&] { open_tokenizer(dir.path()); }),
             ContainsSubstring("tokenizer.json: cannot open: Too many levels of symbolic links"));
  fs::remove(dir / "tokenizer.json");
  fs::copy_file(kLlama / "tokenizer.json", dir / "tokenizer.json");
  circle("tokenizer_config.json");
  CHECK_THAT(expect_error(Exit::input, [&] { open_tokenizer(dir.path()); }),
             ContainsSubstring("Too many levels"));
  CHECK_THAT(expect_error(Exit::input, [&] { open_chat_format(dir.path()); }),
             ContainsSubstring("Too many levels"));
}

TEST_CASE("a map of special tokens is read in linear time, its members over the config's", "[hf][limits]") {
  const TempFolder dir;
  put_file(dir / "tokenizer.json", ByteTokenizer().json());
  put_file(dir / "tokenizer_config.json", R"({"bos_token": "<a>", "x": 1, "eos_token": "<b>"})");
  std::string map = R"({"sep_token": "<d>", "bos_token": "<c>")";
  for (int i = 0; i < 200000; ++i) map += ",\"" + std::to_string(i) + "\":0";
  put_file(dir / "special_tokens_map.json", map + "}");
  CHECK(seconds_of([&] {
          const Tokenizer t = open_tokenizer(dir.path());
          CHECK(t.id_of("<a>") == -1);
          CHECK(t.id_of("<c>") == 256);  // bos, eos, sep
          CHECK(t.id_of("<b>") == 257);
          CHECK(t.id_of("<d>") == 258);
        }) < 5);
}

TEST_CASE("a long text is looked through in blocks, its characters whole", "[hf][limits]") {
  const TempFolder dir;
  // Blocks have 16 MiB: a character of four bytes lies across each of four places near the first one's end.
  for (const size_t before : {0, 1, 2, 3, 4}) {
    std::string text((16 << 20) - before, 'a');
    text += "\U0001f600" + std::string(100, 'b');
    put_file(dir / "a.txt", text);
    CHECK(TextSource(dir / "a.txt", text.size()).find_invalid() == text.size());
    text[text.size() - 50] = '\xff';
    put_file(dir / "a.txt", text);
    const TextSource source(dir / "a.txt", text.size());
    CHECK(source.find_invalid() == text.size() - 50);
    Sha256 hash;
    source.add_to(hash);
    CHECK(hash.hex() == sha256_hex(text));
  }
  // Where no character begins.
  put_file(dir / "a.txt", "a" + std::string(17 << 20, '\x80'));
  CHECK(TextSource(dir / "a.txt", 18 << 20).find_invalid() == 1);
}

TEST_CASE("what a stream holds is limited", "[hf][limits]") {
  const TextSource zeros("/dev/zero", kMaxStreamBytes + 1);
  CHECK(zeros.text().size() == kMaxStreamBytes);
  CHECK(zeros.is_cut());
}

TEST_CASE("a GGUF file's counts", "[hf][limits]") {
  const TempFolder dir;
  const auto file_of = [&](uint64_t tensors, uint64_t keys) {
    std::string text = "GGUF" + raw(uint32_t(3)) + raw(tensors) + raw(keys);
    for (uint64_t i = 0; i < keys && keys <= kMaxGgufKeys; ++i)
      text += raw_string(std::to_string(i)) + raw(uint32_t(0)) + "x";
    text.resize((text.size() + 31) / 32 * 32);
    put_file(dir / "a.gguf", text);
    return MappedFile(dir / "a.gguf");
  };
  CHECK(read_gguf(file_of(0, kMaxGgufKeys)).metadata.values().size() == kMaxGgufKeys);
  CHECK_THAT(expect_error(Exit::input, [&] { read_gguf(file_of(0, kMaxGgufKeys + 1)); }),
             ContainsSubstring("65537 keys: 65536 at most"));
  CHECK_THAT(expect_error(Exit::input, [&] { read_gguf(file_of(kMaxTensors, 0)); }),
             ContainsSubstring("past the file"));  // the first of so many is not there
  CHECK_THAT(expect_error(Exit::input, [&] { read_gguf(file_of(kMaxTensors + 1, 0)); }),
             ContainsSubstring("524289 tensors: 524288 at most"));
}

TEST_CASE("how long pieces with scores are together", "[hf][limits]") {
  const TempFolder dir;
  for (const size_t n : {32767, 32768}) {
    GgufBuilder b;
    b.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", {"a", std::string(n, 'a')});
    b.array("tokenizer.ggml.scores", 6, std::vector<float>{0, 0}).write(dir / "a.gguf");
    if (n == 32767)
      CHECK_NOTHROW(gguf_tokenizer(dir / "a.gguf"));
    else
      CHECK_THAT(expect_error(Exit::input, [&] { gguf_tokenizer(dir / "a.gguf"); }),
                 ContainsSubstring(
                     "token 1: the squares of the pieces' bytes add up to 1073741825: 1073741824 at most"));
  }
}

TEST_CASE("a model's tensors, all shards together", "[hf][limits]") {
  const TempFolder dir;
  fs::copy_file(kLlama / "config.json", dir / "config.json");
  const size_t per_shard = 1 << 16;  // of 9 JSON values each a header has no more than 116,000
  nlohmann::json map;
  for (size_t s = 0; s <= kMaxTensors / per_shard; ++s) {
    const size_t n = s * per_shard < kMaxTensors ? per_shard : 1;
    const std::string name = std::to_string(s) + ".safetensors";
    std::string header = "{";
    for (size_t i = 0; i < n; ++i)
      header +=
          fmt::format(R"({}"{}-{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", i ? "," : "", s, i);
    header += "}";
    put_file(dir / name, raw(uint64_t(header.size())) + header);
    map[std::to_string(s) + "-0"] = name;
    put_file(dir / "model.safetensors.index.json", nlohmann::json{{"weight_map", map}}.dump());
    if (n == 1)
      CHECK_THAT(expect_error(Exit::input, [&] { Checkpoint(dir.path()); }),
                 ContainsSubstring("524289 tensors up to 8.safetensors: 524288 at most"));
    else if ((s + 1) * per_shard == kMaxTensors)
      CHECK(Checkpoint(dir.path()).tensors().size() == kMaxTensors);
  }
}
