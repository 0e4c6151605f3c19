#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace blockgtq {

inline constexpr size_t kMaxTokenizerBytes = 64 << 20;

/// A tokenizer.json of the byte-level BPE family. Same ids as the Hugging Face `tokenizers` library with
/// add_special_tokens=False. What it cannot do exactly is refused by name when it is loaded.
class Tokenizer {
 public:
  explicit Tokenizer(const fs::path& tokenizer_json);
  Tokenizer(std::string_view json, const std::string& name);
  Tokenizer(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Token ids of a UTF-8 text (Exit::input at the first invalid byte, by offset), added tokens inside the
  /// text recognized. Long texts are encoded in pieces on threads(); the result does not depend on it.
  /// max_tokens: no more than the first ids of the whole text's; little more of it is tokenized than they
  /// need.
  std::vector<int32_t> encode(std::string_view text, size_t max_tokens = SIZE_MAX) const;
  /// The bytes these ids stand for (byte-level decoder; special tokens written out).
  std::string decode(const std::vector<int32_t>& ids) const;

  int32_t vocab_size() const;                     // largest id + 1
  int32_t id_of(const std::string& token) const;  // -1 when absent; as written in the file
  const std::string& sha256() const;              // of the file

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
