#pragma once
#include <string>
#include <utility>
#include <vector>

#include "hf/byte_level.h"
#include "hf/tokenizer.h"

namespace blockgtq {

/// A tokenizer.json with the 256 bytes as tokens 0..255 (id = byte) and what a test adds to them.
struct ByteTokenizer {
  std::vector<std::string> tokens;                          // 256, 257, ...; in plain ASCII
  std::vector<std::pair<std::string, std::string>> merges;  // in plain ASCII
  std::string normalizer = "null";
  std::string pre_tokenizer =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";
  std::string added_tokens = "[]";
  std::string model_options;  // "\"ignore_merges\":true,"
  std::string decoder =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
  bool merges_as_text = false;

  static std::string quoted(const std::string& bytes) {
    std::string s;
    append_byte_level(s, bytes);
    std::string out = "\"";
    for (const char c : s) out += (c == '"' || c == '\\') ? std::string("\\") + c : std::string(1, c);
    return out + "\"";
  }

  std::string json() const {
    std::string vocab, merge_list;
    for (int b = 0; b < 256; ++b)
      vocab += (b ? "," : "") + quoted(std::string(1, char(b))) + ":" + std::to_string(b);
    for (size_t i = 0; i < tokens.size(); ++i)
      vocab += "," + quoted(tokens[i]) + ":" + std::to_string(256 + i);
    for (const auto& [a, b] : merges) {
      const std::string left = quoted(a), right = quoted(b);
      merge_list += merge_list.empty() ? "" : ",";
      merge_list += merges_as_text ? left.substr(0, left.size() - 1) + " " + right.substr(1)
                                   : "[" + left + "," + right + "]";
    }
    return R"({"version":"1.0","added_tokens":)" + added_tokens + R"(,"normalizer":)" + normalizer +
           R"(,"pre_tokenizer":)" + pre_tokenizer + R"(,"decoder":)" + decoder +
           R"(,"model":{"type":"BPE",)" + model_options + R"("vocab":{)" + vocab + R"(},"merges":[)" +
           merge_list + "]}}";
  }

  Tokenizer make() const { return Tokenizer(json(), "t.json"); }
};

/// An entry of "added_tokens"; flags: s single_word, l lstrip, r rstrip, n normalized, x special.
inline std::string added_token(int id, const std::string& content, const std::string& flags = "") {
  const auto flag = [&](const char* name, char c) {
    return std::string(",\"") + name + "\":" + (flags.find(c) == std::string::npos ? "false" : "true");
  };
  return "{\"id\":" + std::to_string(id) + ",\"content\":\"" + content + "\"" + flag("single_word", 's') +
         flag("lstrip", 'l') + flag("rstrip", 'r') + flag("normalized", 'n') + flag("special", 'x') + "}";
}

/// The ids, each as its bytes.
inline std::vector<std::string> words(const Tokenizer& t, const std::string& text) {
  std::vector<std::string> out;
  for (const int32_t id : t.encode(text)) out.push_back(t.decode({id}));
  return out;
}

}  // namespace blockgtq
