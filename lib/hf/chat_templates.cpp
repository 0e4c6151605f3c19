// The table of chat templates. We do not run Jinja: Debian 12 and 13 and Ubuntu 22.04 and 24.04 package no
// C++
// library that renders such templates (minja and inja came later, and inja already fails at strings in single
// quotes). A template is recognized by the code that writes its messages. One that writes them in another
// way, or
// trims a text, or opens the assistant's thoughts, is another row or is refused. A new format is a row here
// and one
// in tests/hf/test_chat_format.cpp.
#include <algorithm>

#include "base/error.h"
#include "hf/chat_format.h"
#include "hf/utf8.h"

namespace blockgtq {
namespace {

struct Row {
  const char* family;
  // The template's normal form has all of `marks` and none of `absent`.
  const char* marks[6] = {};
  const char* absent[9] = {};
  const char *frame, *system = "", *without = "";  // as in ChatFormat; without null: not known
  bool trims_user = false, trims_system = false;
};

// Where two rows fit, the first one is taken.
constexpr Row kRows[] = {
    // Qwen 1.5 to 3, SmolLM2, Yi, InternLM2, LFM2, Hermes and many others. Its own system text is looked up.
    {.family = "ChatML",
     .marks = {"<|im_start|>", "<|im_end|>"},
     .absent = {"<|im_sep|>", "'<think>\n'", "assistant\n<think>", "TEXT|trim + '<|im_end|>",
                "system_message|trim", "render_content", "## Metadata", "{{system_message}}",
                "deep thinking subroutine"},
     .frame = "{bos}{system}<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n",
     .system = "<|im_start|>system\n{text}<|im_end|>\n"},
    // Llama 3.1, 3.2, 3.3. 3.2 writes today's date where the renderer has a clock, and this date otherwise.
    {.family = "Llama 3",
     .marks = {"{{- 'Cutting Knowledge Date: December 2023\n'}}", "date_string = '26 Jul 2024'",
               "{{- 'Today Date: ' + date_string + '\n\n'}}", "system_message = ''",
               "system_message = messages[0]['content']|trim",
               "'<|start_header_id|>' + ROLE + '<|end_header_id|>\n\n'+ TEXT|trim + '<|eot_id|>'"},
     .absent = {"<|begin_of_text|>"},
     .frame =
         "{bos}<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
         "Today Date: 26 Jul 2024\n\n{system}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{user}"
         "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     .system = "{text}",
     .trims_user = true,
     .trims_system = true},
    {.family = "Llama 3",
     .marks = {"'<|start_header_id|>' + ROLE + '<|end_header_id|>\n\n'+ TEXT|trim + '<|eot_id|>'"},
     .absent = {"<|begin_of_text|>", "<|start_header_id|>system"},
     .frame = "{bos}{system}<|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n",
     .system = "<|start_header_id|>system<|end_header_id|>\n\n{text}<|eot_id|>",
     .trims_user = true,
     .trims_system = true},
    // 7B v0.1 to v0.3 and Mixtral as first published.
    {.family = "Mistral",
     .marks = {"'[INST] ' + TEXT + ' [/INST]'"},
     .absent = {"'system'", "system_", "<<SYS>>"},
     .frame = "{bos}[INST] {user} [/INST]"},
    // 7B v0.1 and v0.2, Mixtral 8x7B.
    {.family = "Mistral",
     .marks = {"' [INST] ' + system_message + '\n\n' + TEXT + ' [/INST]'", "' [INST] ' + TEXT + ' [/INST]'"},
     .frame = "{bos} [INST] {system}{user} [/INST]",
     .system = "{text}\n\n"},
    // 7B v0.3, Mixtral 8x22B, Large 2407, Small 2409.
    {.family = "Mistral",
     .marks = {"'[INST] ' + system_message + '\n\n' + TEXT + '[/INST]'", "'[INST] ' + TEXT + '[/INST]'"},
     .frame = "{bos}[INST] {system}{user}[/INST]",
     .system = "{text}\n\n"},
    // Nemo, Ministral 2410.
    {.family = "Mistral",
     .marks = {"'[INST]' + system_message + '\n\n' + TEXT + '[/INST]'", "'[INST]' + TEXT + '[/INST]'"},
     .frame = "{bos}[INST]{system}{user}[/INST]",
     .system = "{text}\n\n"},
    // Large 2411.
    {.family = "Mistral",
     .marks = {"'[SYSTEM_PROMPT] ' + TEXT + '[/SYSTEM_PROMPT]'", "'[INST] ' + TEXT + '[/INST]'"},
     .frame = "{bos}{system}[INST] {user}[/INST]",
     .system = "[SYSTEM_PROMPT] {text}[/SYSTEM_PROMPT]"},
    // Small 2501 to 2506, Devstral. These write a system text of their own, with today's date or of several
    // parts.
    {.family = "Mistral",
     .marks = {"{{- '[SYSTEM_PROMPT]' + system_", "= default_system_message", "'[INST]", "'[/INST]'"},
     .absent = {"'\n\n' + TEXT"},
     .frame = "{bos}{system}[INST]{user}[/INST]",
     .system = "[SYSTEM_PROMPT]{text}[/SYSTEM_PROMPT]",
     .without = nullptr},
    {.family = "Mistral",
     .marks = {"'[SYSTEM_PROMPT]' + TEXT + '[/SYSTEM_PROMPT]'", "'[INST]' + TEXT + '[/INST]'"},
     .absent = {"default_system_message"},
     .frame = "{bos}{system}[INST]{user}[/INST]",
     .system = "[SYSTEM_PROMPT]{text}[/SYSTEM_PROMPT]"},
    // LLM 7B and 67B, V2, V2 Lite.
    {.family = "DeepSeek",
     .marks = {"'User: ' + TEXT + '\n\n'", "TEXT + '\n\n'}}", "'Assistant:'"},
     .absent = {"System: "},
     .frame = "{bos}{system}User: {user}\n\nAssistant:",
     .system = "{text}\n\n"},
    // V2.5, whose template writes eight spaces before the first token where a system text is given.
    {.family = "DeepSeek",
     .marks = {"        {% set ns.system_prompt = TEXT %}", "'<｜User｜>' + TEXT}}",
               "{{'<｜Assistant｜>'}}{% endif %}"},
     .absent = {"<｜Assistant｜><think>", "thinking"},
     .frame = "{system}<｜User｜>{user}<｜Assistant｜>",
     .system = "        {bos}{text}",
     .without = "{bos}"},
    // V3, and R1 as first published.
    {.family = "DeepSeek",
     .marks = {"ns.system_prompt", "'<｜User｜>' + TEXT}}", "{{'<｜Assistant｜>'}}{% endif %}"},
     .absent = {"<｜Assistant｜><think>", "thinking"},
     .frame = "{bos}{system}<｜User｜>{user}<｜Assistant｜>",
     .system = "{text}"},
    // R1 0528, where the assistant begins after every message of the user.
    {.family = "DeepSeek",
     .marks = {"ns.system_prompt", "{{'<｜User｜>' + content + '<｜Assistant｜>'}}", "not ns.is_last_user"},
     .absent = {"thinking"},
     .frame = "{bos}{system}<｜User｜>{user}<｜Assistant｜>",
     .system = "{text}"},
    // R1 and its distilled models.
    {.family = "DeepSeek",
     .marks = {"ns.system_prompt", "'<｜User｜>' + TEXT}}", "{{'<｜Assistant｜><think>\n'}}"},
     .absent = {"thinking"},
     .frame = "{bos}{system}<｜User｜>{user}<｜Assistant｜><think>\n",
     .system = "{text}"},
    // V3.1, which thinks only on request.
    {.family = "DeepSeek",
     .marks = {"ns.system_prompt", "'<｜User｜>' + TEXT}}", "set thinking = false",
               "{{'<｜Assistant｜>'}}{%- if not thinking %}{{'</think>'}}"},
     .frame = "{bos}{system}<｜User｜>{user}<｜Assistant｜></think>",
     .system = "{text}"},
    // 1 and 2.
    {.family = "Gemma",
     .marks = {"'<start_of_turn>' + role + '\n' + TEXT|trim + '<end_of_turn>\n'",
               "raise_exception('System role not supported')"},
     .frame = "{bos}<start_of_turn>user\n{user}<end_of_turn>\n<start_of_turn>model\n",
     .trims_user = true},
    // 3 and 3n.
    {.family = "Gemma",
     .marks = {"'<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '')",
               "first_user_prefix = messages[0]['content'] + '\n\n'", "{{TEXT|trim}}"},
     .frame = "{bos}<start_of_turn>user\n{system}{user}<end_of_turn>\n<start_of_turn>model\n",
     .system = "{text}\n\n",
     .trims_user = true},
    // Mini and medium as first published, which drop a system text.
    {.family = "Phi-3",
     .marks = {"'<|user|>\n' + TEXT + '<|end|>\n<|assistant|>\n'"},
     .absent = {"'system'"},
     .frame = "{bos}<|user|>\n{user}<|end|>\n<|assistant|>\n"},
    // Small and vision.
    {.family = "Phi-3",
     .marks = {"'<|' + ROLE + '|>\n' + TEXT + '<|end|>\n'", "'<|assistant|>\n'"},
     .frame = "{bos}{system}<|user|>\n{user}<|end|>\n<|assistant|>\n",
     .system = "<|system|>\n{text}<|end|>\n"},
    // Mini 2024-07, 3.5.
    {.family = "Phi-3",
     .marks = {"'<|system|>\n' + TEXT + '<|end|>\n'", "'<|user|>\n' + TEXT + '<|end|>\n'",
               "{{'<|assistant|>\n'}}"},
     .frame = "{bos}{system}<|user|>\n{user}<|end|>\n<|assistant|>\n",
     .system = "<|system|>\n{text}<|end|>\n"},
    {.family = "Phi-4",
     .marks = {"'<|im_start|>system<|im_sep|>' + TEXT + '<|im_end|>'",
               "'<|im_start|>user<|im_sep|>' + TEXT + '<|im_end|>", "<|im_start|>assistant<|im_sep|>'}}"},
     .frame = "{bos}{system}<|im_start|>user<|im_sep|>{user}<|im_end|><|im_start|>assistant<|im_sep|>",
     .system = "<|im_start|>system<|im_sep|>{text}<|im_end|>"},
    // Mini.
    {.family = "Phi-4",
     .marks = {"{{'<|' + ROLE + '|>' + TEXT + '<|end|>'}}", "{{'<|assistant|>'}}"},
     .absent = {"ROLE != 'system'"},
     .frame = "{bos}{system}<|user|>{user}<|end|><|assistant|>",
     .system = "<|system|>{text}<|end|>"},
    // 9B, whose templates end in two ways.
    {.family = "GLM-4",
     .marks = {"[gMASK]<sop>{% for item in messages %}", "<|assistant|>{% endif %}",
               "<|{{item['role']}}|>{{item['metadata']}}\n{{item['content']}}{% endif %}"},
     .frame = "[gMASK]<sop>{system}<|user|>\n{user}<|assistant|>",
     .system = "<|system|>\n{text}"},
    {.family = "GLM-4",
     .marks = {"[gMASK]<sop>{% for item in messages %}", "<|assistant|>\n{% endif %}",
               "<|{{item['role']}}|>{{item['metadata']}}\n{{item['content']}}{% endif %}"},
     .frame = "[gMASK]<sop>{system}<|user|>\n{user}<|assistant|>\n",
     .system = "<|system|>\n{text}"},
    // 4.5 and 4.6; then 4.5 in the form of its GGUF files.
    {.family = "GLM-4",
     .marks = {"[gMASK]<sop>", "<|user|>\n{{visible_text(m.content)}}",
               "<|system|>\n{{visible_text(m.content)}}",
               "<|assistant|>{{- '\n<think></think>' if (enable_thinking is defined and not enable_thinking) "
               "else '' -}}"},
     .frame = "[gMASK]<sop>{system}<|user|>\n{user}<|assistant|>",
     .system = "<|system|>\n{text}"},
    {.family = "GLM-4",
     .marks = {"[gMASK]<sop>", "<|user|>\n{% set content = visible_text(m.content) %}{{content}}",
               "<|system|>\n{{visible_text(m.content)}}",
               "<|assistant|>{{- '\n<think></think>' if (enable_thinking is defined and not enable_thinking) "
               "else '' -}}"},
     .frame = "[gMASK]<sop>{system}<|user|>\n{user}<|assistant|>",
     .system = "<|system|>\n{text}"},
    // 4.7, 5.
    {.family = "GLM-4",
     .marks = {"[gMASK]<sop>", "<|user|>{{visible_text(m.content)}}", "<|system|>{{visible_text(m.content)}}",
               "<|assistant|>{{- '</think>' if (enable_thinking is defined and not enable_thinking) else "
               "'<think>' -}}"},
     .frame = "[gMASK]<sop>{system}<|user|>{user}<|assistant|><think>",
     .system = "<|system|>{text}"},
};

/// Joins adjacent strings that have a plus between them.
std::string joined(const std::string& chat_template) {
  return replace_all(replace_all(chat_template, "' + '", ""), "\" + \"", "");
}

/// The template with one spelling for what templates spell in several ways: quotes, line feeds, a message's
/// parts, spaces.
std::string normal_form(const std::string& joined) {
  constexpr const char* kSpellings[][2] = {{"\"", "'"},
                                           {"\\n", "\n"},
                                           {"message['content']", "TEXT"},
                                           {"message['role']", "ROLE"},
                                           {"message.content", "TEXT"},
                                           {"message.role", "ROLE"},
                                           {" | trim", "|trim"},
                                           {"{{ ", "{{"},
                                           {" }}", "}}"}};
  std::string text = joined;
  for (const auto& [spelling, one] : kSpellings) text = replace_all(text, spelling, one);
  return text;
}

bool fits(const Row& row, const std::string& text) {
  for (const char* mark : row.marks)
    if (mark && text.find(mark) == std::string::npos) return false;
  for (const char* absent : row.absent)
    if (absent && text.find(absent) != std::string::npos) return false;
  return true;
}

constexpr size_t kMaxOwnBytes = 16 << 10;  // of a template's own system text

/// What a string of a template, which `quote` ends, says from `first` up to `end`; nothing where that does
/// not come, or something is put in between.
std::optional<std::string> literal(std::string_view text, size_t first, char quote, std::string_view end) {
  std::string out;
  for (size_t i = first; i < text.size() && i - first < kMaxOwnBytes; ++i) {
    if (text.substr(i).starts_with(end)) return out;
    if (text[i] == quote || text[i] == '{' || text[i] == '}') return std::nullopt;
    const bool escaped = text[i] == '\\' && i + 1 < text.size();
    if (escaped) ++i;
    out += escaped && text[i] == 'n' ? '\n' : text[i];
  }
  return std::nullopt;
}

/// The system text that ChatML's template writes where no message is one: the text between
/// "<|im_start|>system\n" and "<|im_end|>" where it is in one string, or the value of system_message. Empty:
/// it writes none. Absent: the value of system_message is composed, so it is not known.
std::optional<std::string> own_system(std::string_view text) {
  const std::string_view head = "<|im_start|>system", named = "set system_message = ";
  size_t looked = 0, quote = text.npos;  // the last quote mark before there
  for (size_t at = text.find(head); at != text.npos; at = text.find(head, at + 1)) {
    for (; looked < at; ++looked)
      if (text[looked] == '\'' || text[looked] == '"') quote = looked;
    const size_t first = at + head.size();
    const size_t newline = text.substr(first, 1) == "\n" ? 1 : text.substr(first, 2) == "\\n" ? 2 : 0;
    if (newline == 0) continue;
    const char mark = quote == text.npos ? '\0' : text[quote];
    if (std::optional<std::string> own = literal(text, first + newline, mark, "<|im_end|>")) return own;
  }
  for (size_t at = text.find(named); at != text.npos; at = text.find(named, at + 1)) {
    const size_t quote = at + named.size();
    const std::string mark(text.substr(quote, 1));
    if (mark != "'" && mark != "\"") continue;
    const std::optional<std::string> own = literal(text, quote + 1, mark[0], mark + " %}");
    if (!own || !own->empty()) return own;
  }
  return "";
}

std::string known_families() {
  std::string names;
  const char* before = "";
  for (const Row& row : kRows) {
    if (row.family != std::string_view(before))
      names += (names.empty() ? "" : ", ") + std::string(row.family);
    before = row.family;
  }
  return names;
}

}  // namespace

ChatFormat chat_format(const std::string& chat_template, const std::optional<std::string>& bos,
                       const std::string& where) {
  if (chat_template.size() > kMaxChatTemplateBytes)
    fail_input("{}: the chat template is too long: {} bytes, allowed: {}", where, chat_template.size(),
               kMaxChatTemplateBytes);
  const std::string text = joined(chat_template), normal = normal_form(text);
  const Row* row = std::find_if(std::begin(kRows), std::end(kRows),
                                [&](const Row& candidate) { return fits(candidate, normal); });
  if (row == std::end(kRows))
    throw Error(Exit::input,
                fmt::format("{}: the chat template is of no known format: {}", where, known_families()),
                "write the conversation out as the model wants it, and leave --chat out");
  ChatFormat format;
  format.family = row->family;
  format.where = where;
  format.frame = row->frame;
  format.system = row->system;
  format.trims_user = row->trims_user;
  format.trims_system = row->trims_system;
  if (text.find("bos_token") != std::string::npos) {
    if (!bos) fail_input("{}: the chat template writes bos_token, and no file names one", where);
    format.bos = *bos;
  }
  if (row->without) format.without = fmt::format(fmt::runtime(row->without), fmt::arg("bos", format.bos));
  if (row->family == std::string_view("ChatML")) {
    format.without = own_system(text);
    if (format.without && !format.without->empty())
      format.without = fmt::format(fmt::runtime(row->system), fmt::arg("text", *format.without));
  }
  return format;
}

}  // namespace blockgtq
