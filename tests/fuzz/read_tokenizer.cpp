// Tokenizers: ids are in range, the first ids do not depend on what follows, a decoder that only undoes bytes
// gives the text back.
#include <algorithm>

#include "base/error.h"
#include "hf/chat_format.h"
#include "hf/corpus.h"
#include "hf/pattern.h"
#include "hf/tokenizer.h"
#include "hf/utf8.h"
#include "reader.h"

namespace blockgtq {
namespace {

std::vector<int32_t> encode_checked(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> ids = tokenizer.encode(text);
  for (const int32_t id : ids) check(id >= 0 && id < tokenizer.vocab_size(), "an id out of range");
  const size_t some = ids.size() / 2;
  const std::vector<int32_t> first = tokenizer.encode(text, some);
  check(first.size() == some && std::equal(first.begin(), first.end(), ids.begin()),
        "the first ids depend on how many are wanted");
  return ids;
}

const Tokenizer& small_model(size_t which) {
  static const fs::path source = BLOCKGTQ_SOURCE_DIR;
  static const Tokenizer all[] = {Tokenizer(source / "data/models/tiny-llama/tokenizer.json"),
                                  Tokenizer(source / "tests/hf/sentencepiece/llama2.json")};
  return all[which % 2];
}

}  // namespace

/// tokenizer.json, 0xff, a text.
void fuzz_tokenizer(std::string_view input) {
  const auto parts = parts_of(input, 2);
  const Tokenizer tokenizer(parts[0], "tokenizer.json");
  static_cast<void>(tokenizer.decode(encode_checked(tokenizer, parts[1])));
}

/// The first byte chooses among the tree's own tokenizers.
void fuzz_text(std::string_view input) {
  if (input.empty()) return;
  const std::string_view text = input.substr(1);
  const bool byte_level = input[0] % 2 == 0;
  const Tokenizer& tokenizer = small_model(byte_level ? 0 : 1);
  const std::string back = tokenizer.decode(encode_checked(tokenizer, text));
  if (byte_level) check(back == text, "a text does not come back");
}

/// An expression of a tokenizer, 0xff, a text.
void fuzz_pattern(std::string_view input) {
  const auto parts = parts_of(input, 2);
  for (const std::string_view part : parts)
    if (find_invalid_utf8(part) < part.size()) fail_input("not UTF-8");  // as JSON refuses it
  const Pattern pattern(to_pcre2(parts[0], "pattern"), "pattern");
  Matches matches(pattern);
  matches.start(parts[1]);
  size_t last = 0;
  for (size_t begin, end; matches.next(begin, end); last = end)
    check(begin >= last && begin <= end && end <= parts[1].size(), "matches that overlap");
}

/// tokenizer_config.json, special_tokens_map.json, added_tokens.json, generation_config.json, with 0xff
/// between, beside a small tokenizer.json.
void fuzz_folder(std::string_view input) {
  static const fs::path source = fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/hf/sentencepiece/llama2.json";
  static const bool copied = fs::copy_file(source, scratch_folder() / "tokenizer.json");
  check(copied, "no tokenizer.json");
  const auto parts = parts_of(input, 4);
  const char* names[] = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                         "generation_config.json"};
  for (size_t i = 0; i < 4; ++i) {
    if (parts[i].empty())
      fs::remove(scratch_folder() / names[i]);
    else
      scratch_file(names[i], parts[i]);
  }
  const auto attempt = [](auto&& read) {
    try {
      read();
    } catch (const Error&) {
    }
  };
  attempt([] { static_cast<void>(open_chat_format(scratch_folder()).prompt("Hi", "Be kind.")); });
  attempt([] { static_cast<void>(first_token_id(scratch_folder(), 500)); });
  attempt([] {
    for (const int32_t id : last_token_ids(scratch_folder(), 500)) check(id >= 0 && id < 500, "an id");
  });
  const Tokenizer tokenizer = open_tokenizer(scratch_folder());
  static_cast<void>(tokenizer.decode(encode_checked(tokenizer, "Hello <x> World")));
}

/// A chat template, 0xff, a text.
void fuzz_chat(std::string_view input) {
  const auto parts = parts_of(input, 2);
  const ChatFormat format = chat_format(std::string(parts[0]), "<s>", "chat_template.jinja");
  const std::string user(parts[1]);
  if (!format.system.empty()) static_cast<void>(format.prompt(user, "Be kind."));
  static_cast<void>(format.prompt(user));
}

}  // namespace blockgtq
