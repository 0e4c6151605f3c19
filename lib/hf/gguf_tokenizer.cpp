// A GGUF file has a tokenizer's vocabulary, merges or scores, and only the name of its pattern. Sources: for
// the
// patterns, the tokenizer.json files of the models that these names stand for; for the names and the kinds of
// token,
// llama.cpp, src/llama-vocab.cpp.
#include "hf/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "hf/bpe.h"
#include "hf/config_fields.h"
#include "hf/tokenizer.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kPattern = "tokenizer.ggml.pre";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kHint = "--ids FILE takes token ids instead of a text";
constexpr const char* kSpace = "\u2581";  // what SentencePiece writes for a space

/// Every way to cut a piece in two is looked up: of all pieces, the squares of their bytes.
constexpr uint64_t kMaxPieceWork = uint64_t(1) << 30;

enum class Kind : int64_t { normal = 1, unknown, control, user_defined, unused, byte };

// clang-format off
constexpr const char* kDigits = "";  // a separate stage, which splits digit by digit
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeekMain =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// clang-format on

/// The stages of patterns: each cuts what the one before left. Without stages ByteLevel uses GPT-2's pattern.
struct Pattern {
  const char* name;
  std::vector<const char*> stages;
  bool gpt2;
  bool ignore_merges;
  bool nfc;
};

const std::vector<Pattern>& patterns() {
  static const std::vector<Pattern> all = {
      {"gpt-2", {}, true, false, false},
      {"phi-2", {}, true, false, false},
      {"olmo", {}, true, false, false},
      {"mellum", {}, true, false, false},
      {"smollm", {kDigits}, true, false, false},
      {"starcoder", {kDigits}, true, false, false},
      {"command-r", {kDigits}, true, false, true},
      {"llama-bpe", {kLlama3}, false, true, false},
      {"llama3", {kLlama3}, false, true, false},
      {"llama-v3", {kLlama3}, false, true, false},
      {"smaug-bpe", {kLlama3}, false, false, false},
      {"qwen2", {kQwen2}, false, false, true},
      {"deepseek-r1-qwen", {kQwen2}, false, false, true},
      {"qwen35", {kQwen35}, false, false, true},
      {"tekken", {kTekken}, false, true, false},
      {"gpt-4o", {kGpt4o}, false, false, false},
      {"seed-coder", {kSeedCoder}, false, false, false},
      {"deepseek-coder",
       {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", kDigits},
       false,
       false,
       false},
      {"deepseek-v3",
       {R"(\p{N}{1,3})", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", kDeepSeekMain},
       false,
       false,
       false},
  };
  return all;
}

const Pattern& find_pattern(const GgufMetadata& metadata) {
  const std::string name = metadata.text(kPattern, "");
  std::string known;
  for (const Pattern& p : patterns()) {
    if (name == p.name) return p;
    known += (known.empty() ? "" : ", ") + std::string(p.name);
  }
  metadata.fail(
      kPattern,
      name.empty() ? "missing: " + known : fmt::format("{} is not supported: {}", shown(name), known), kHint);
}

struct Token {
  std::string_view text;
  Kind kind = Kind::normal;
};

std::vector<Token> read_tokens(const GgufMetadata& metadata) {
  std::vector<Token> out;
  for (const std::string_view text : metadata.texts(kTokens)) out.push_back({text});
  if (out.size() > size_t(kMaxTokenId))
    metadata.fail(kTokens, fmt::format("{} tokens: {} at most", out.size(), kMaxTokenId));
  if (!metadata.has(kTypes)) return out;
  const std::vector<int64_t> types = metadata.integers(kTypes);
  if (types.size() != out.size())
    metadata.fail(kTypes, fmt::format("{} numbers for {} tokens", types.size(), out.size()));
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 0 || types[i] > int64_t(Kind::byte))
      metadata.fail(kTypes, fmt::format("token {}: type {} is out of range: 0 to {}", i, types[i],
                                        int64_t(Kind::byte)));
    out[i].kind = types[i] == 0 ? Kind::normal : Kind(types[i]);
  }
  return out;
}

/// A string in JSON.
std::string json_text(std::string_view text) {
  return Json(std::string(text)).dump();
}

std::string vocabulary(const std::vector<Token>& tokens) {
  std::string out = "{";
  for (size_t i = 0; i < tokens.size(); ++i)
    out += (i ? "," : "") + json_text(tokens[i].text) + ":" + std::to_string(i);
  return out + "}";
}

/// Tokens that are searched in the text before it is cut into words.
Json added_tokens(const std::vector<Token>& tokens) {
  Json out = Json::array();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Kind kind = tokens[i].kind;
    if (kind != Kind::unknown && kind != Kind::control && kind != Kind::user_defined) continue;
    out.push_back({{"id", i},
                   {"content", std::string(tokens[i].text)},
                   {"single_word", false},
                   {"lstrip", false},
                   {"rstrip", false},
                   {"normalized", false},
                   {"special", kind != Kind::user_defined}});
  }
  return out;
}

/// The tokenizer.json: `root`, with the model's vocabulary and merges, which are long, inserted as text.
std::string assemble(Json root, const std::string& vocab, const std::string& merges) {
  Json model = root["model"];
  root.erase("model");
  std::string out = root.dump(), last = model.dump();
  out.back() = ',';
  last.back() = ',';
  return out + "\"model\":" + last + "\"vocab\":" + vocab + ",\"merges\":" + merges + "}}";
}

Json byte_level(bool prefix_space, bool regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix_space},
          {"trim_offsets", true},
          {"use_regex", regex}};
}

std::string byte_level_tokenizer(const GgufMetadata& metadata) {
  const Pattern& pattern = find_pattern(metadata);
  const std::vector<Token> tokens = read_tokens(metadata);
  Json stages = Json::array();
  for (const char* stage : pattern.stages) {
    if (stage == kDigits) {
      stages.push_back({{"type", "Digits"}, {"individual_digits", true}});
    } else {
      stages.push_back(
          {{"type", "Split"}, {"pattern", {{"Regex", stage}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
  }
  const bool prefix_space = metadata.flag("tokenizer.ggml.add_space_prefix", false);
  stages.push_back(byte_level(prefix_space, pattern.gpt2));
  Json root = {{"version", "1.0"}, {"added_tokens", added_tokens(tokens)}};
  root["normalizer"] = pattern.nfc ? Json({{"type", "NFC"}}) : Json();
  root["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", stages}};
  root["decoder"] = byte_level(true, true);
  root["model"] = {{"type", "BPE"}, {"ignore_merges", pattern.ignore_merges}};
  std::string merges = "[";
  for (const std::string_view merge : metadata.texts("tokenizer.ggml.merges"))
    merges += (merges.size() > 1 ? "," : "") + json_text(merge);
  return assemble(std::move(root), vocabulary(tokens), merges + "]");
}

/// Every way to join two pieces to a third, in descending order of the third's score. SentencePiece looks up
/// what two adjacent pieces make together, and merges the best pair.
std::string merges_by_score(const GgufMetadata& metadata, const std::vector<Token>& tokens) {
  const std::vector<float> scores = metadata.numbers(kScores);
  if (scores.size() != tokens.size())
    metadata.fail(kScores, fmt::format("{} numbers for {} tokens", scores.size(), tokens.size()));
  std::unordered_map<std::string_view, size_t> pieces;
  std::vector<size_t> order;
  uint64_t work = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    // A piece never has a space, which is written as another character.
    if (tokens[i].kind != Kind::normal || tokens[i].text.find(' ') != std::string_view::npos) continue;
    work += uint64_t(tokens[i].text.size()) * tokens[i].text.size();
    if (work > kMaxPieceWork)
      metadata.fail(
          kTokens, fmt::format("token {}: the squares of the pieces' bytes add up to {}: {} at most", i, work,
                               kMaxPieceWork));
    pieces.emplace(tokens[i].text, i);
    order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::string out = "[";
  for (const size_t i : order) {
    const std::string_view piece = tokens[i].text;
    for (size_t at = 0; at < piece.size();) {
      at += size_t(decode_utf8(piece.data() + at).length);
      const std::string_view left = piece.substr(0, at), right = piece.substr(at);
      if (right.empty() || !pieces.count(left) || !pieces.count(right)) continue;
      out += (out.size() > 1 ? "," : "") + json_text(std::string(left) + " " + std::string(right));
    }
    if (out.size() > kMaxTokenizerBytes)
      metadata.fail(kTokens, fmt::format("its merges are more than {} bytes", kMaxTokenizerBytes));
  }
  return out + "]";
}

std::string score_tokenizer(const GgufMetadata& metadata) {
  if (metadata.flag("tokenizer.ggml.remove_extra_whitespaces", false))
    metadata.fail("tokenizer.ggml.remove_extra_whitespaces", "true is not supported: false", kHint);
  if (const GgufValue* map = metadata.find("tokenizer.ggml.precompiled_charsmap"); map && map->count > 0)
    metadata.fail("tokenizer.ggml.precompiled_charsmap", "is not supported", kHint);
  const std::vector<Token> tokens = read_tokens(metadata);
  Json root = {{"version", "1.0"}, {"added_tokens", added_tokens(tokens)}};
  Json normalizers = Json::array(), decoders = Json::array();
  const bool prefix_space = metadata.flag("tokenizer.ggml.add_space_prefix", true);
  if (prefix_space) normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  root["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
  root["pre_tokenizer"] = nullptr;
  decoders.push_back({{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}});
  decoders.push_back({{"type", "ByteFallback"}});
  decoders.push_back({{"type", "Fuse"}});
  if (prefix_space) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  root["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  root["model"] = {{"type", "BPE"}, {"fuse_unk", true}, {"byte_fallback", true}, {"ignore_merges", false}};
  const auto unknown =
      std::find_if(tokens.begin(), tokens.end(), [](const Token& t) { return t.kind == Kind::unknown; });
  root["model"]["unk_token"] = unknown == tokens.end() ? Json() : Json(std::string(unknown->text));
  return assemble(std::move(root), vocabulary(tokens), merges_by_score(metadata, tokens));
}

}  // namespace

std::string gguf_tokenizer(const fs::path& gguf) {
  const MappedFile file(gguf);
  return gguf_tokenizer(read_gguf(file).metadata);
}

std::string gguf_tokenizer(const GgufMetadata& metadata) {
  const std::string model = metadata.text(kModel, "");
  if (model == "gpt2") return byte_level_tokenizer(metadata);
  if (model == "llama") return score_tokenizer(metadata);
  metadata.fail(
      kModel,
      model.empty() ? "missing: gpt2, llama" : fmt::format("{} is not supported: gpt2, llama", shown(model)),
      kHint);
}

}  // namespace blockgtq
