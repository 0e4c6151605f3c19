#pragma once
#include <optional>
#include <string>

#include "base/file.h"

namespace blockgtq {

inline constexpr size_t kMaxChatTemplateBytes = 128 << 10;

/// How a model that was trained on conversations wants one to be written: the texts that transformers'
/// apply_chat_template(add_generation_prompt=True, tokenize=False) makes of the model's chat template. A date
/// in them is the template's own: today's never stands there.
struct ChatFormat {
  std::string family;  // "Llama 3"
  std::string where;   // the template's file, for messages
  std::string bos;     // the text of the first token, where the template writes it
  // `frame` has {bos}, {system} and {user} where these are put in; `system` has {bos} and {text}.
  std::string frame;
  std::string system;                  // a system text with its surroundings; empty: none can be given
  std::optional<std::string> without;  // in its place where none is given; absent: not known
  bool trims_user = false, trims_system = false;

  /// One message of the user, up to where the assistant begins. The text has the model's first token where
  /// the template writes it. system: replaces the model's own system text; an empty one counts as none.
  /// Exit::input where the template has no place for it, or needs one, or a text is not UTF-8.
  std::string prompt(const std::string& user, const std::optional<std::string>& system = std::nullopt) const;
};

/// The format of a Jinja template. bos: the text of the model's first token, absent where its files name
/// none. Exit::input where the format is not known, or the template writes a first token that is not named.
ChatFormat chat_format(const std::string& chat_template, const std::optional<std::string>& bos,
                       const std::string& where);

/// The format of a model's folder (chat_template.jinja, or tokenizer_config.json) or GGUF file. Exit::input
/// where there is no template.
ChatFormat open_chat_format(const fs::path& folder_or_gguf);

}  // namespace blockgtq
