#pragma once
#include <optional>
#include <string>

#include "base/file.h"

namespace blockgtq {

/// How a model that was trained on conversations wants one to be written. Known is ChatML, recognised in the
/// model's chat template: every message is "<|im_start|>ROLE\nTEXT<|im_end|>\n".
struct ChatFormat {
  std::string system;  // what the template says where nobody does; empty: nothing

  /// One message of the user, up to where the assistant begins. system: in the place of the model's own.
  std::string prompt(const std::string& user, const std::optional<std::string>& system = std::nullopt) const;
};

/// Of a template in Jinja. Exit::input where it is of another format.
ChatFormat chat_format(const std::string& chat_template, const std::string& where);

/// Of a model's folder (chat_template.jinja, or tokenizer_config.json) or GGUF file. Exit::input where there
/// is no template.
ChatFormat open_chat_format(const fs::path& folder_or_gguf);

}  // namespace blockgtq
