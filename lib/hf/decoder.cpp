#include "hf/decoder.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/byte_level.h"
#include "hf/tokenizer_json.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr const char* kReplacementCharacter = "\xEF\xBF\xBD";

/// The byte that "<0x41>" stands for; -1 for any other token.
int byte_of(const std::string& token) {
  unsigned value = 0;
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return error == std::errc() && end == token.data() + 5 ? int(value) : -1;
}

/// The text that tokens of bytes make. Where they make none, a replacement character for each.
std::vector<std::string> join_bytes(const std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string bytes;
  const auto flush = [&] {
    if (find_invalid_utf8(bytes) == bytes.size()) {
      if (!bytes.empty()) out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), kReplacementCharacter);
    }
    bytes.clear();
  };
  for (const std::string& token : tokens) {
    const int byte = byte_of(token);
    if (byte >= 0) {
      bytes += char(byte);
    } else {
      flush();
      out.push_back(token);
    }
  }
  flush();
  return out;
}

void strip(std::string& token, const std::string& what, size_t start, size_t stop) {
  std::string_view left = token;
  for (; start > 0 && left.starts_with(what); --start) left.remove_prefix(what.size());
  for (; stop > 0 && left.ends_with(what); --stop) left.remove_suffix(what.size());
  token = std::string(left);
}

size_t bytes_of(const std::vector<std::string>& tokens) {
  size_t n = 0;
  for (const std::string& token : tokens) n += token.size();
  return n;
}

size_t get_count(const Json& json, const char* key, const std::string& where) {
  const Json& value = get_member(json, key, where);
  const int64_t n = non_negative(value);
  if (n < 0) fail_input("{}: \"{}\" is not a count: {}", where, key, value.dump());
  return size_t(n);
}

}  // namespace

Decoder::Decoder(const Json* json, const std::string& where) : where_(where), is_null_(json == nullptr) {
  if (json) add(*json, where);
}

bool Decoder::is_byte_level() const {
  return steps_.size() == 1 && steps_[0].kind == Kind::byte_level;
}

void Decoder::add(const Json& json, const std::string& where) {
  const std::string type = get_type(json, where);
  if (type == "Sequence") {
    const Json& parts = get_member(json, "decoders", where);
    if (!parts.is_array()) fail_input("{}: \"decoders\" is not an array: {}", where, parts.type_name());
    for (const Json& part : parts) add(part, where);
    return;
  }
  if (steps_.size() == kMaxSteps) fail_input("{}: too many parts: more than {}", where, kMaxSteps);
  Step step;
  if (type == "ByteLevel") {
    step.kind = Kind::byte_level;
  } else if (type == "ByteFallback") {
    step.kind = Kind::byte_fallback;
  } else if (type == "Fuse") {
    step.kind = Kind::fuse;
  } else if (type == "Metaspace") {
    step.kind = Kind::metaspace;
    step.from = get_string(json, "replacement", where);
    step.strips_first = read_prepend_scheme(json, where) != "never";
  } else if (type == "Replace") {
    step.kind = Kind::replace;
    step.from = get_string(get_member(json, "pattern", where), "String", where);
    step.to = get_string(json, "content", where);
  } else if (type == "Strip") {
    step.kind = Kind::strip;
    step.from = get_string(json, "content", where);
    step.start = get_count(json, "start", where);
    step.stop = get_count(json, "stop", where);
  } else {
    fail_input(
        "{}: the type is not supported: {}, allowed: ByteFallback, ByteLevel, Fuse, Metaspace, Replace, "
        "Sequence, Strip, null",
        where, type);
  }
  const bool needs_text =
      step.kind == Kind::metaspace || step.kind == Kind::replace || step.kind == Kind::strip;
  if (needs_text && step.from.empty()) fail_input("{}: {} of an empty text", where, type);
  if (step.from.size() > kMaxPatternBytes || step.to.size() > kMaxGrowth * step.from.size())
    fail_input("{}: {} of {} bytes by {}, allowed: {} by {} times as many", where, type, step.from.size(),
               step.to.size(), kMaxPatternBytes, kMaxGrowth);
  steps_.push_back(std::move(step));
}

void Decoder::apply(const Step& step, std::vector<std::string>& tokens) {
  if (step.kind == Kind::byte_fallback) {
    tokens = join_bytes(tokens);
  } else if (step.kind == Kind::fuse) {
    std::string all;
    for (const std::string& token : tokens) all += token;
    tokens.assign(1, all);
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::string& token = tokens[i];
    if (step.kind == Kind::byte_level) {
      std::string bytes;
      append_bytes(bytes, token);
      token = bytes;
    } else if (step.kind == Kind::metaspace) {
      token = replace_all(token, step.from, i == 0 && step.strips_first ? "" : " ");
    } else if (step.kind == Kind::replace) {
      token = replace_all(token, step.from, step.to);
    } else if (step.kind == Kind::strip) {
      strip(token, step.from, step.start, step.stop);
    }
  }
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  for (size_t i = 1; is_null_ && i < tokens.size(); ++i) tokens[i] = " " + tokens[i];
  const size_t most = kMaxGrowth * bytes_of(tokens) + kMinGrowth;
  for (const Step& step : steps_) {
    apply(step, tokens);
    if (bytes_of(tokens) > most)
      fail_input("{}: makes too much of {} tokens: more than {} bytes", where_, tokens.size(), most);
  }
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

}  // namespace blockgtq
