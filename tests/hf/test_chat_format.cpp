#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "catch.h"
#include "hf/chat_format.h"
#include "hf/gguf_builder.h"
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

struct Sample {
  const char* model;
  const char* chat_template;  // made up: what the model's own is recognised by, and writes the same
  std::optional<std::string> bos;
  // What jinja2 3.1 with transformers' settings (trim_blocks, lstrip_blocks, raise_exception, strftime_now,
  // which said 26 Jul 2024) made of the template published with the model, for kUser alone and for kSystem
  // before it. Empty: what is refused.
  const char *alone, *with_system;
};

const std::string kUser = " Où ?\n", kSystem = "\tSois bref. ";

const Sample kSamples[] = {
    {"Llama 3",
     "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
     "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 =="
     " 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{{ '<|st"
     "art_header_id|>assistant<|end_header_id|>\n\n' }}",
     "<|begin_of_text|>",
     "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n"
     "\nOù ?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n",
     "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n"
     "\nSois bref.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\nOù ?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"},
    {"Llama 3.2",
     "{{- bos_token }}\n{%- if strftime_now is defined %}{%- set date_string = strftime_now(\""
     "%d %b %Y\") %}{%- else %}{%- set date_string = \"26 Jul 2024\" %}{%- endif %}\n"
     "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']"
     "|trim %}{%- set messages = messages[1:] %}{%- else %}{%- set system_message = \"\" %}{%-"
     " endif %}\n{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n"
     "{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n"
     "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n"
     "{{- system_message }}\n{{- \"<|eot_id|>\" }}\n{%- for message in messages %}{{- '<|start"
     "_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim +"
     " '<|eot_id|>' }}{%- endfor %}\n{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n'"
     " }}",
     "<|begin_of_text|>",
     "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n"
     "\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n"
     "\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\nOù ?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n",
     "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n"
     "\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n"
     "\nSois bref.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\nOù ?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"},
    {"Mistral 7B v0.1",
     "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST]"
     " ' + message['content'] + ' [/INST]' }}{% else %}{{ raise_exception('roles') }}{% endif "
     "%}{% endfor %}",
     "<s>", "<s>[INST]  Où ?\n [/INST]", ""},
    {"Mistral 7B v0.2",
     "{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %"
     "}{% set messages = messages[1:] %}{% endif %}{{ bos_token }}{% for message in messages %"
     "}{% if system_message is defined %}{{ ' [INST] ' + system_message + '\\n\\n' + message['"
     "content'] + ' [/INST]' }}{% else %}{{ ' [INST] ' + message['content'] + ' [/INST]' }}{% "
     "endif %}{% endfor %}",
     "<s>", "<s> [INST]  Où ?\n [/INST]", "<s> [INST] \tSois bref. \n\n Où ?\n [/INST]"},
    {"Mistral Large 2407",
     "{% if messages[0][\"role\"] == \"system\" %}{% set system_message = messages[0][\"conten"
     "t\"] %}{% set messages = messages[1:] %}{% endif %}{{ bos_token }}{% for message in mess"
     "ages %}{% if system_message is defined %}{{ \"[INST] \" + system_message + \"\\n\\n\" + "
     "message[\"content\"] + \"[/INST]\" }}{% else %}{{ \"[INST] \" + message[\"content\"] + \""
     "[/INST]\" }}{% endif %}{% endfor %}",
     "<s>", "<s>[INST]  Où ?\n[/INST]", "<s>[INST] \tSois bref. \n\n Où ?\n[/INST]"},
    {"Mistral Nemo 2407",
     "{% if messages[0][\"role\"] == \"system\" %}{% set system_message = messages[0][\"conten"
     "t\"] %}{% set messages = messages[1:] %}{% endif %}{{ bos_token }}{% for message in mess"
     "ages %}{% if system_message is defined %}{{ \"[INST]\" + system_message + \"\\n\\n\" + m"
     "essage[\"content\"] + \"[/INST]\" }}{% else %}{{ \"[INST]\" + message[\"content\"] + \"["
     "/INST]\" }}{% endif %}{% endfor %}",
     "<s>", "<s>[INST] Où ?\n[/INST]", "<s>[INST]\tSois bref. \n\n Où ?\n[/INST]"},
    {"Mistral Large 2411",
     "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST]"
     " ' + message['content'] + '[/INST]' }}{% else %}{{ '[SYSTEM_PROMPT] ' + message['content"
     "'] + '[/SYSTEM_PROMPT]' }}{% endif %}{% endfor %}",
     "<s>", "<s>[INST]  Où ?\n[/INST]",
     "<s>[SYSTEM_PROMPT] \tSois bref. [/SYSTEM_PROMPT][INST]  Où ?\n"
     "[/INST]"},
    {"Mistral Small 2506",
     "{%- set default_system_message = 'Today is ' + strftime_now('%Y-%m-%d') %}{{- bos_token "
     "}}{%- set system_prompt = default_system_message %}{%- if messages[0]['role'] == 'system"
     "' %}{%- set system_prompt = messages[0]['content'] %}{%- set messages = messages[1:] %}{"
     "%- endif %}{{- '[SYSTEM_PROMPT]' + system_prompt + '[/SYSTEM_PROMPT]' }}{%- for message "
     "in messages %}{{- '[INST]' }}{{- message['content'] }}{{- '[/INST]' }}{%- endfor %}",
     "<s>", "",
     "<s>[SYSTEM_PROMPT]\tSois bref. [/SYSTEM_PROMPT][INST] Où ?\n"
     "[/INST]"},
    {"Mistral Small 2501 as a GGUF file has it",
     "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST]"
     "' + message['content'] + '[/INST]' }}{% else %}{{ '[SYSTEM_PROMPT]' + message['content']"
     " + '[/SYSTEM_PROMPT]' }}{% endif %}{% endfor %}",
     "<s>", "<s>[INST] Où ?\n[/INST]",
     "<s>[SYSTEM_PROMPT]\tSois bref. [/SYSTEM_PROMPT][INST] Où ?\n"
     "[/INST]"},
    {"DeepSeek-V2",
     "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: "
     "' + message['content'] + '\n\n' }}{% else %}{{ message['content'] + '\n"
     "\n' }}{% endif %}{% endfor %}{{ 'Assistant:' }}",
     "<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜>User:  Où ?\n\n\nAssistant:",
     "<｜begin▁of▁sentence｜>\tSois bref. \n\nUser:  Où ?\n"
     "\n\nAssistant:"},
    {"DeepSeek-V2.5",
     "{% set ns = namespace(system_prompt='') %}{% for message in messages %}{% if message['ro"
     "le'] == 'system' %}        {% set ns.system_prompt = message['content'] %}{% endif %}{% "
     "endfor %}{{bos_token}}{{ns.system_prompt}}{% for message in messages %}{% if message['ro"
     "le'] == 'user' %}{{'<｜User｜>' + message['content']}}{% endif %}{% endfor %}{% if add_gen"
     "eration_prompt %}{{'<｜Assistant｜>'}}{% endif %}",
     "<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜><｜User｜> Où ?\n<｜Assistant｜>",
     "        <｜begin▁of▁sentence｜>\tSois bref. <｜User｜> Où ?\n"
     "<｜Assistant｜>"},
    {"DeepSeek-V3",
     "{% set ns = namespace(system_prompt='') %}{% for message in messages %}{% if message['ro"
     "le'] == 'system' %}{% set ns.system_prompt = message['content'] %}{% endif %}{% endfor %"
     "}{{bos_token}}{{ns.system_prompt}}{% for message in messages %}{% if message['role'] == "
     "'user' %}{{'<｜User｜>' + message['content']}}{% endif %}{% endfor %}{% if add_generation_"
     "prompt %}{{'<｜Assistant｜>'}}{% endif %}",
     "<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜><｜User｜> Où ?\n<｜Assistant｜>",
     "<｜begin▁of▁sentence｜>\tSois bref. <｜User｜> Où ?\n<｜Assistant｜>"},
    {"DeepSeek-R1 0528",
     "{% set ns = namespace(system_prompt='') %}{% for message in messages %}{% if message['ro"
     "le'] == 'system' %}{% set ns.system_prompt = message['content'] %}{% endif %}{% endfor %"
     "}{{ bos_token }}{{ ns.system_prompt }}{% for message in messages %}{% if message['role']"
     " == 'user' %}{% set ns.is_last_user = true %}{% set content = message['content'] %}{{'<｜"
     "User｜>' + content + '<｜Assistant｜>'}}{% endif %}{% endfor %}{% if add_generation_prompt "
     "and not ns.is_last_user %}{{'<｜Assistant｜>'}}{% endif %}",
     "<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜><｜User｜> Où ?\n<｜Assistant｜>",
     "<｜begin▁of▁sentence｜>\tSois bref. <｜User｜> Où ?\n<｜Assistant｜>"},
    {"DeepSeek-R1-Distill-Llama-8B",
     "{% set ns = namespace(system_prompt='') %}{% for message in messages %}{% if message['ro"
     "le'] == 'system' %}{% set ns.system_prompt = message['content'] %}{% endif %}{% endfor %"
     "}{{bos_token}}{{ns.system_prompt}}{% for message in messages %}{% if message['role'] == "
     "'user' %}{{'<｜User｜>' + message['content']}}{% endif %}{% endfor %}{% if add_generation_"
     "prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}",
     "<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜><｜User｜> Où ?\n<｜Assistant｜><think>\n",
     "<｜begin▁of▁sentence｜>\tSois bref. <｜User｜> Où ?\n<｜Assistant｜><think>\n"},
    {"DeepSeek-V3.1",
     "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{% set ns = namespa"
     "ce(system_prompt='') %}{% for message in messages %}{% if message['role'] == 'system' %}"
     "{% set ns.system_prompt = message['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ "
     "ns.system_prompt }}{% for message in messages %}{% if message['role'] == 'user' %}{{'<｜U"
     "ser｜>' + message['content']}}{% endif %}{% endfor %}{{'<｜Assistant｜>'}}{%- if not thinki"
     "ng %}{{'</think>'}}{%- else %}{{'<think>'}}{%- endif %}",
     "<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜><｜User｜> Où ?\n<｜Assistant｜></think>",
     "<｜begin▁of▁sentence｜>\tSois bref. <｜User｜> Où ?\n<｜Assistant｜></think>"},
    {"Gemma 2",
     "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role n"
     "ot supported') }}{% endif %}{% for message in messages %}{% set role = message['role'] %"
     "}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n"
     "' }}{% endfor %}{{'<start_of_turn>model\n'}}",
     "<bos>", "<bos><start_of_turn>user\nOù ?<end_of_turn>\n<start_of_turn>model\n", ""},
    {"Gemma 3",
     "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first_user_prefix = mes"
     "sages[0]['content'] + '\n\n' -%}{%- set messages = messages[1:] -%}{%- else -%}{%- set f"
     "irst_user_prefix = \"\" -%}{%- endif -%}{%- for message in messages -%}{%- set role = me"
     "ssage['role'] -%}{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first e"
     "lse \"\") }}{{ message['content'] | trim }}{{ '<end_of_turn>\n"
     "' }}{%- endfor -%}{{ '<start_of_turn>model\n' }}",
     "<bos>", "<bos><start_of_turn>user\nOù ?<end_of_turn>\n<start_of_turn>model\n",
     "<bos><start_of_turn>user\n\tSois bref. \n\nOù ?<end_of_turn>\n"
     "<start_of_turn>model\n"},
    {"Phi-3-mini",
     "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{'<|user|"
     ">' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n"
     "'}}{% endif %}{% endfor %}",
     "<s>", "<s><|user|>\n Où ?\n<|end|>\n<|assistant|>\n", ""},
    {"Phi-3-small",
     "{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n"
     "' + message['content'] + '<|end|>\n' }}{% endfor %}{{ '<|assistant|>\n"
     "' }}",
     "<|endoftext|>", "<|endoftext|><|user|>\n Où ?\n<|end|>\n<|assistant|>\n",
     "<|endoftext|><|system|>\n\tSois bref. <|end|>\n<|user|>\n"
     " Où ?\n<|end|>\n<|assistant|>\n"},
    {"Phi-3.5-mini",
     "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n"
     "' + message['content'] + '<|end|>\n'}}{% else %}{{'<|user|>\n"
     "' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{{ '<|assistant|>\n"
     "' }}",
     "<s>", "<|user|>\n Où ?\n<|end|>\n<|assistant|>\n",
     "<|system|>\n\tSois bref. <|end|>\n<|user|>\n Où ?\n"
     "<|end|>\n<|assistant|>\n"},
    {"Phi-4-mini",
     "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|"
     "end|>' }}{% endfor %}{{ '<|assistant|>' }}",
     "<|endoftext|>", "<|user|> Où ?\n<|end|><|assistant|>",
     "<|system|>\tSois bref. <|end|><|user|> Où ?\n<|end|><|assistant|>"},
    {"Phi-4",
     "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|im_start|>system<|"
     "im_sep|>' + message['content'] + '<|im_end|>'}}{% else %}{{'<|im_start|>user<|im_sep|>' "
     "+ message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>' }}{% endif %}{% endfo"
     "r %}",
     "<|endoftext|>", "<|im_start|>user<|im_sep|> Où ?\n<|im_end|><|im_start|>assistant<|im_sep|>",
     "<|im_start|>system<|im_sep|>\tSois bref. <|im_end|><|im_start|>user<|im_sep|> Où ?\n"
     "<|im_end|><|im_start|>assistant<|im_sep|>"},
    {"GLM-4-9B",
     "[gMASK]<sop>{% for item in messages %}{% if item['content'] %}<|{{ item['role'] }}|>{{ i"
     "tem['metadata'] }}\n{{ item['content'] }}{% endif %}{% endfor %}{% if add_generation_pro"
     "mpt %}<|assistant|>{% endif %}",
     std::nullopt, "[gMASK]<sop><|user|>\n Où ?\n<|assistant|>",
     "[gMASK]<sop><|system|>\n\tSois bref. <|user|>\n Où ?\n"
     "<|assistant|>"},
    {"GLM-4-9B as llama.cpp tests it",
     "[gMASK]<sop>{% for item in messages %}{% if item['content'] %}<|{{ item['role'] }}|>{{ i"
     "tem['metadata'] }}\n{{ item['content'] }}{% endif %}{% endfor %}{% if add_generation_pro"
     "mpt %}<|assistant|>\n{% endif %}",
     std::nullopt, "[gMASK]<sop><|user|>\n Où ?\n<|assistant|>\n",
     "[gMASK]<sop><|system|>\n\tSois bref. <|user|>\n Où ?\n"
     "<|assistant|>\n"},
    {"GLM-4.6",
     "[gMASK]<sop>{% macro visible_text(content) %}{{ content }}{% endmacro %}{% for m in mess"
     "ages %}{% if m.role == 'user' %}<|user|>\n{{ visible_text(m.content) }}{% elif m.role =="
     " 'system' %}<|system|>\n{{ visible_text(m.content) }}{% endif %}{% endfor %}{% if add_ge"
     "neration_prompt %}<|assistant|>{{- '\\n<think></think>' if (enable_thinking is defined a"
     "nd not enable_thinking) else '' -}}{% endif %}",
     std::nullopt, "[gMASK]<sop><|user|>\n Où ?\n<|assistant|>",
     "[gMASK]<sop><|system|>\n\tSois bref. <|user|>\n Où ?\n"
     "<|assistant|>"},
    {"GLM-4.5 as a GGUF file has it",
     "[gMASK]<sop>{% macro visible_text(content) %}{{ content }}{% endmacro %}{% for m in mess"
     "ages %}{% if m.role == 'user' %}<|user|>\n{% set content = visible_text(m.content) %}{{ "
     "content }}{% elif m.role == 'system' %}<|system|>\n"
     "{{ visible_text(m.content) }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assi"
     "stant|>{{- '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) "
     "else '' -}}{% endif %}",
     std::nullopt, "[gMASK]<sop><|user|>\n Où ?\n<|assistant|>",
     "[gMASK]<sop><|system|>\n\tSois bref. <|user|>\n Où ?\n"
     "<|assistant|>"},
    {"GLM-4.7-Flash",
     "[gMASK]<sop>{% macro visible_text(content) %}{{ content }}{% endmacro %}{% for m in mess"
     "ages %}{% if m.role == 'user' %}<|user|>{{ visible_text(m.content) }}{% elif m.role == '"
     "system' %}<|system|>{{ visible_text(m.content) }}{% endif %}{% endfor %}{% if add_genera"
     "tion_prompt %}<|assistant|>{{- '</think>' if (enable_thinking is defined and not enable_"
     "thinking) else '<think>' -}}{% endif %}",
     std::nullopt, "[gMASK]<sop><|user|> Où ?\n<|assistant|><think>",
     "[gMASK]<sop><|system|>\tSois bref. <|user|> Où ?\n<|assistant|><think>"},
};

ChatFormat format_of(const std::string& chat_template) {
  return chat_format(chat_template, "<s>", "x");
}

}  // namespace

TEST_CASE("conversations as transformers renders the templates of known models", "[chat]") {
  for (const Sample& sample : kSamples) {
    INFO(sample.model);
    const ChatFormat format = chat_format(sample.chat_template, sample.bos, "x");
    CHECK(std::string(sample.model).starts_with(format.family));
    if (*sample.alone) {
      CHECK(format.prompt(kUser) == sample.alone);
      CHECK(format.prompt(kUser, "") == sample.alone);
    } else {
      CHECK_THROWS_WITH(format.prompt(kUser), "x: the chat template puts a system text of its own together");
    }
    if (*sample.with_system)
      CHECK(format.prompt(kUser, kSystem) == sample.with_system);
    else
      CHECK_THROWS_WITH(format.prompt(kUser, kSystem), "x: the chat template has no place for a system text");
  }
}

TEST_CASE("ChatML as transformers renders these templates", "[chat]") {
  CHECK(format_of(kSmol).prompt("Hello!") ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
  CHECK(
      format_of(kSmol).prompt("Hello!", "Be brief.") ==
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
  CHECK(format_of(kOther).prompt("a") ==
        "<|im_start|>system\nYou aren't asked.\nAnswer.<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
        "<|im_start|>assistant\n");
  CHECK(format_of(kPlain).prompt("a\nb") == "<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n");
  // What is put in is not looked into again.
  CHECK(format_of(kPlain).prompt("{user}{}", "{system}") ==
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}{}<|im_end|>\n"
        "<|im_start|>assistant\n");
}

TEST_CASE("ChatML's own system text, as jinja2 finds it in such templates", "[chat]") {
  const std::string turn = "{{ '<|im_start|>system\\n' + system_message + '<|im_end|>\\n' }}";
  const auto before_user = [](const std::string& chat_template) {
    const std::string text = format_of(chat_template).prompt("a");
    return text.substr(0, text.find("<|im_start|>user"));
  };
  // LLaMA-Factory's Qwen; a text in two strings and with the other quote mark; no text.
  CHECK(before_user("{% set system_message = 'You are a helpful assistant.' %}" + turn) ==
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n");
  CHECK(before_user(R"({{- '<|im_start|>system\n' + 'Say "so"\'.' + '<|im_end|>\n' }})") ==
        "<|im_start|>system\nSay \"so\"'.<|im_end|>\n");
  CHECK(before_user("{% set system_message = '' %}" + turn).empty());
  // A text that is put together is not known, one that is given takes its place.
  const ChatFormat joined = format_of("{% set system_message = 'Today is ' + date %}" + turn);
  CHECK_THROWS_WITH(joined.prompt("a"), ContainsSubstring("puts a system text of its own together"));
  CHECK(joined.prompt("a", "b") == format_of(kPlain).prompt("a", "b"));
}

TEST_CASE("Jinja's trim is Python's strip", "[chat]") {
  const ChatFormat format = chat_format(kSamples[0].chat_template, "", "x");
  const std::string spaces =
      "\t\n\v\f\r\x1c\x1d\x1e\x1f \u0085\u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000";
  CHECK(format.prompt(spaces + "a" + spaces + "b" + spaces) == format.prompt("a" + spaces + "b"));
  CHECK(format.prompt(spaces) == format.prompt(""));
  CHECK(format.prompt("\u200ba\ufeff") != format.prompt("a"));  // no white space
  CHECK_THROWS_WITH(format.prompt("a\xff"), "the prompt is not UTF-8: byte 0xFF at offset 1");
  CHECK_THROWS_WITH(format.prompt("a", "\xe2\x82"), ContainsSubstring("the system text is not UTF-8"));
}

TEST_CASE("templates that write something else are refused", "[chat]") {
  for (const std::string text :
       {"{{ bos_token + '[INST] ' + '<<SYS>>\n' + message['content'] + ' [/INST]' }}",   // Llama 2
        "{{ '<|im_start|>user\n' }}{{ '<|im_start|>assistant\n<think>\n<|im_end|>' }}",  // QwQ
        "{{ '<|im_start|>assistant\n<|im_end|>' }}{{- '<think>\n' }}",                   // Qwen3.5
        "{{ '<|im_start|>' + message['content'] | trim + '<|im_end|>\n' }}",
        "{{ '<|user|>\n' + message['content'] + eos_token }}",  // Zephyr
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] + "
        "'<|eot_id|>' }}",
        "{{ '<｜User｜>' + message['content'] }}", "[gMASK]<sop>", ""}) {
    INFO(text);
    try {
      format_of(text);
      FAIL("taken");
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      CHECK(e.what() ==
            std::string("x: the chat template is of no known format: ChatML, Llama 3, Mistral, DeepSeek, "
                        "Gemma, Phi-3, Phi-4, GLM-4"));
      CHECK_FALSE(e.hint.empty());
    }
  }
}

TEST_CASE("where a chat template stands, and what is refused", "[chat]") {
  const TempDir dir;
  const fs::path config = dir.path() / "tokenizer_config.json";
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("no chat template"));
  write_bytes(config, R"({"model_max_length": 8})");
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("no chat template"));
  write_bytes(config, Json{{"chat_template", kSmol}}.dump());
  CHECK(open_chat_format(dir.path()).prompt("a") == format_of(kSmol).prompt("a"));
  write_bytes(config,
              Json{{"chat_template",
                    {{{"name", "tools"}, {"template", kPlain}}, {{"name", "default"}, {"template", kOther}}}}}
                  .dump());
  CHECK(open_chat_format(dir.path()).prompt("a") == format_of(kOther).prompt("a"));
  write_bytes(config, R"({"chat_template": 5})");
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("chat_template: a number"));
  write_bytes(config, R"({"chat_template": "[INST] {{ message }} [/INST]"})");
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("is of no known format"));
  write_bytes(dir.path() / "chat_template.jinja", kPlain);  // goes before
  CHECK(open_chat_format(dir.path()).prompt("a") == format_of(kPlain).prompt("a"));
}

TEST_CASE("the first token that a chat template writes", "[chat]") {
  const std::string writes = "{{ bos_token }}" + kPlain, rest = format_of(kPlain).prompt("a");
  CHECK(format_of(writes).prompt("a") == "<s>" + rest);
  CHECK_THROWS_WITH(chat_format(writes, std::nullopt, "x"),
                    "x: the chat template writes bos_token, and no file names one");
  CHECK(chat_format(kPlain, std::nullopt, "x").prompt("a") == rest);

  const TempDir dir;
  const fs::path config = dir.path() / "tokenizer_config.json", map = dir.path() / "special_tokens_map.json";
  const auto prompt_with = [&](const Json& bos) {
    write_bytes(config, Json{{"chat_template", writes}, {"bos_token", bos}}.dump());
    return open_chat_format(dir.path()).prompt("a");
  };
  CHECK(prompt_with("<b>") == "<b>" + rest);
  CHECK(prompt_with(Json{{"content", "<c>"}, {"lstrip", false}}) == "<c>" + rest);
  CHECK(prompt_with(nullptr) == rest);
  CHECK_THROWS_WITH(prompt_with(5), ContainsSubstring("bos_token: a number, allowed: a text"));
  write_bytes(config, Json{{"chat_template", writes}}.dump());
  CHECK_THROWS_WITH(open_chat_format(dir.path()), ContainsSubstring("no file names one"));
  write_bytes(map, R"({"bos_token": "<d>"})");
  CHECK(open_chat_format(dir.path()).prompt("a") == "<d>" + rest);

  const fs::path gguf = dir.path() / "m.gguf";
  GgufBuilder builder;
  builder.text("general.architecture", "llama");
  builder.write(gguf);
  CHECK_THROWS_WITH(open_chat_format(gguf), ContainsSubstring("no chat template"));
  builder.text("tokenizer.chat_template", writes).texts("tokenizer.ggml.tokens", {"<unk>", "<e>"});
  builder.write(gguf);
  CHECK(open_chat_format(gguf).prompt("a") == rest);
  builder.integer("tokenizer.ggml.bos_token_id", 1);
  builder.write(gguf);
  CHECK(open_chat_format(gguf).prompt("a") == "<e>" + rest);
  builder.integer("tokenizer.ggml.bos_token_id", 2);
  builder.write(gguf);
  CHECK_THROWS_WITH(open_chat_format(gguf), ContainsSubstring("tokenizer.ggml.bos_token_id"));
}
