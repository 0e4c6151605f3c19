#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace blockgtq {

inline constexpr size_t kMaxTokenizerBytes = 64 << 20;

struct ExtraToken;

/// A tokenizer.json with a BPE model: byte-level, or with SentencePiece's pieces. Ids are those of the
/// Hugging Face `tokenizers` library with add_special_tokens=False. Loading refuses by name what it cannot do
/// exactly (Exit::input).
class Tokenizer {
 public:
  explicit Tokenizer(const fs::path& tokenizer_json);
  Tokenizer(std::string_view json, const std::string& name);
  /// extra: added tokens that other files name.
  Tokenizer(std::string_view json, const std::string& name, const std::vector<ExtraToken>& extra);
  Tokenizer(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// The token ids of a UTF-8 text, in which added tokens are recognized. Long texts are encoded in pieces on
  /// threads(); the result does not depend on their number. max_tokens: only so many of the first ids; little
  /// more of the text is tokenized than they need. Exit::input at the first invalid byte, by offset.
  std::vector<int32_t> encode(std::string_view text, size_t max_tokens = SIZE_MAX) const;
  /// The bytes that these ids stand for. Special tokens are written out.
  std::string decode(const std::vector<int32_t>& ids) const;

  int32_t vocab_size() const;                     // largest id + 1
  int32_t id_of(const std::string& token) const;  // -1 when absent; `token` as written in the file
  const std::string& sha256() const;  // of the file, and of the extra tokens where they change something
  /// One line for everything that may differ from how the model was trained; without the file's name.
  const std::vector<std::string>& warnings() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The tokenizer of a model's folder as transformers makes it: tokenizer.json with the added and special
/// tokens of tokenizer_config.json, added_tokens.json and special_tokens_map.json; or the tokenizer of a GGUF
/// file. Exit::input, with a hint, where there is none.
Tokenizer open_tokenizer(const fs::path& folder_or_gguf);

}  // namespace blockgtq
