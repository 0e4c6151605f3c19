#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "catch.h"
#include "hf/chat_format.h"
#include "hf/safetensors_builder.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

// As SmolLM2-Instruct has it.
const std::string kSmol =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
    "'<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
// The shape of Qwen's: the system message of the conversation comes first, the template's own behind.
const std::string kOther =
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + "
    "'<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou aren\\'t asked.\\nAnswer.<|im_end|>\\n' }}{%- endif %}";
// No text of its own.
const std::string kPlain =
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}";

}  // namespace

TEST_CASE("ChatML as transformers renders these templates", "[chat]") {
  CHECK(chat_format(kSmol, "x").prompt("Hello!") ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
  CHECK(
      chat_format(kSmol, "x").prompt("Hello!", "Be brief.") ==
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
  CHECK(chat_format(kOther, "x").system == "You aren't asked.\nAnswer.");
  CHECK(chat_format(kPlain, "x").prompt("a\nb") ==
        "<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n");
}

TEST_CASE("where a chat template stands, and what is refused", "[chat]") {
  const TempDir dir;
  const fs::path config = dir.path() / "tokenizer_config.json";
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("no chat template"));
  write_bytes(config, R"({"model_max_length": 8})");
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("no chat template"));
  write_bytes(config, Json{{"chat_template", kSmol}}.dump());
  CHECK(open_chat_format(dir.path()).system == chat_format(kSmol, "").system);
  write_bytes(config,
              Json{{"chat_template",
                    {{{"name", "tools"}, {"template", kPlain}}, {{"name", "default"}, {"template", kOther}}}}}
                  .dump());
  CHECK(open_chat_format(dir.path()).system == "You aren't asked.\nAnswer.");
  write_bytes(config, R"({"chat_template": 5})");
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("chat_template: a number"));
  write_bytes(config, R"({"chat_template": "[INST] {{ message }} [/INST]"})");
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("is not ChatML"));
  write_bytes(dir.path() / "chat_template.jinja", kPlain);  // goes before
  CHECK(open_chat_format(dir.path()).system.empty());
}
