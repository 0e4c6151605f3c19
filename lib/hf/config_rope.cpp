// The RoPE fields of a config. Source of the rules: transformers, modeling_rope_utils.py. Where it guesses (a
// missing
// theta), or lets one of two contradicting spellings win, we refuse the config.
#include "hf/config_rope.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

namespace blockgtq {

namespace {

constexpr std::array<std::pair<const char*, RopeType>, 6> kRopeTypes = {{{"default", RopeType::standard},
                                                                         {"linear", RopeType::linear},
                                                                         {"dynamic", RopeType::dynamic},
                                                                         {"llama3", RopeType::llama3},
                                                                         {"yarn", RopeType::yarn},
                                                                         {"longrope", RopeType::longrope}}};

/// The object under `key`, with its type under "rope_type"; an empty object where it is absent.
Json read_spelling(const ConfigFields& config, const std::string& key, const RopeDialect& dialect) {
  const Json* value = config.find(key);
  if (!value) return Json::object();
  if (!value->is_object()) config.fail(key, fmt::format("expected an object, found {}", shown(*value)));
  Json out = *value;
  if (out.empty()) return out;
  for (const auto& [inner, v] : out.items()) {
    if (v.is_object())
      config.fail(key, fmt::format("one set per layer type ({}) is not supported", shown(inner)));
  }
  if (dialect.mrope) {  // on text all three axes have the same positions
    out.erase("mrope_section");
    out.erase("mrope_interleaved");
    for (const std::string type : {"type", "rope_type"})
      if (out.contains(type) && out[type] == "mrope") out[type] = "default";
    if (out.empty()) return out;
  }
  if (dialect.longrope_only) {  // older folders call it so
    for (const std::string type : {"type", "rope_type"})
      if (out.contains(type) && (out[type] == "su" || out[type] == "yarn")) out[type] = "longrope";
  }
  if (out.contains("mrope_section")) config.fail(key, "mrope_section: multimodal RoPE is not supported");
  const bool has_old = out.contains("type") && !out["type"].is_null();
  const bool has_new = out.contains("rope_type") && !out["rope_type"].is_null();
  if (has_old && has_new && out["type"] != out["rope_type"])
    config.fail(
        key, fmt::format("type: {} differs from rope_type: {}", shown(out["type"]), shown(out["rope_type"])));
  if (has_old && !has_new) out["rope_type"] = out["type"];
  if (!has_old && !has_new) {
    // {"rope_theta": ...} alone means the default. A factor without a type means that the type was lost.
    if (out.contains("factor")) config.fail(key + ".rope_type", "missing beside factor");
    out["rope_type"] = "default";
  }
  out.erase("type");
  return out;
}

/// Adds `value` under `key`. Exit::input, naming both places, where it has another value already.
void agree(const ConfigFields& config, Json& merged, const std::string& where, const std::string& key,
           const std::string& other, const Json& value) {
  if (value.is_null() && merged.contains(key)) return;
  if (merged.contains(key) && !merged[key].is_null() && merged[key] != value)
    config.fail(where, fmt::format("{} differs from {}: {}", shown(value), other, shown(merged[key])));
  merged[key] = value;
}

RopeType parse_type(const ConfigFields& rope) {
  const std::string type = rope.text("rope_type", "default");
  for (const auto& [text, value] : kRopeTypes) {
    if (type == text) return value;
  }
  rope.fail("rope_type", fmt::format("{} is not supported: default, linear, dynamic, llama3, yarn, longrope",
                                     shown(type)));
}

/// The number of rotated coordinates. transformers' models that rotate whole heads ignore a share under
/// default RoPE, and fail under other kinds, which compute frequencies for the share alone.
int parse_rotary_dim(const ConfigFields& rope, const RopeDialect& dialect, RopeType type,
                     std::vector<std::string>& remarks) {
  const char* key = "partial_rotary_factor";
  const double share = rope.number(key).value_or(dialect.partial);
  if (!(share > 0 && share <= 1))
    rope.fail(key, fmt::format("{} is out of range: above 0, at most 1", share));
  if (dialect.whole_head) {
    if (share == 1) return dialect.head_dim;
    if (type != RopeType::standard)
      rope.fail(key,
                fmt::format("{} is not supported for this model beside rope_type {}: 1", share, name(type)));
    remarks.push_back(rope.message(
        key,
        fmt::format("{} is ignored, as transformers does for this model: all {} coordinates of a head turn",
                    share, dialect.head_dim)));
    return dialect.head_dim;
  }
  const int rotary_dim = int(dialect.head_dim * share);
  if (rotary_dim < 2 || rotary_dim % 2 != 0)
    rope.fail(key, fmt::format("{} of head_dim {} turns {} coordinates: an even number, at least 2", share,
                               dialect.head_dim, rotary_dim));
  return rotary_dim;
}

double parse_factor(const ConfigFields& rope) {
  const double factor = rope.positive("factor");
  if (factor < 1) rope.fail("factor", fmt::format("{} is out of range: at least 1", factor));
  return factor;
}

void parse_llama3(const ConfigFields& rope, int max_position, RopeConfig& out) {
  out.factor = parse_factor(rope);
  out.low_freq_factor = rope.positive("low_freq_factor");
  out.high_freq_factor = rope.positive("high_freq_factor");
  if (out.high_freq_factor <= out.low_freq_factor)
    rope.fail("high_freq_factor", fmt::format("{} is out of range: above low_freq_factor: {}",
                                              out.high_freq_factor, out.low_freq_factor));
  out.original_max_position =
      rope.integer_or("original_max_position_embeddings", max_position, 1, kMaxPositions);
}

void parse_attention_factor(const ConfigFields& rope, RopeConfig& out) {
  out.attention_factor = rope.number("attention_factor");
  if (out.attention_factor && !(*out.attention_factor > 0))
    rope.fail("attention_factor", fmt::format("{} is out of range: above 0", *out.attention_factor));
}

void parse_yarn(const ConfigFields& rope, int max_position, RopeConfig& out) {
  out.original_max_position =
      rope.integer_or("original_max_position_embeddings", max_position, 1, kMaxPositions);
  if (rope.mentions("factor") && !rope.has("factor")) {  // null: the ratio of the two lengths
    out.factor = double(max_position) / out.original_max_position;
  } else {
    out.factor = parse_factor(rope);
  }
  out.beta_fast = rope.positive_or("beta_fast", 32);
  out.beta_slow = rope.positive_or("beta_slow", 1);
  if (out.beta_fast < out.beta_slow)
    rope.fail("beta_fast",
              fmt::format("{} is out of range: at least beta_slow: {}", out.beta_fast, out.beta_slow));
  out.truncate = rope.flag("truncate", true);
  parse_attention_factor(rope, out);
  out.mscale = rope.number("mscale");
  out.mscale_all_dim = rope.number("mscale_all_dim");
  if (out.mscale.value_or(0) < 0 || out.mscale_all_dim.value_or(0) < 0)
    rope.fail("mscale", fmt::format("{} and mscale_all_dim {} are out of range: at least 0",
                                    out.mscale.value_or(0), out.mscale_all_dim.value_or(0)));
}

std::vector<double> parse_factors(const ConfigFields& rope, const std::string& key, int n) {
  const Json* list = rope.find(key);
  if (!list) rope.fail(key, fmt::format("missing: {} numbers, one per rotary block", n));
  if (!list->is_array() || list->size() != size_t(n))
    rope.fail(key, fmt::format("{} is not a list of {} numbers, one per rotary block", shown(*list), n));
  std::vector<double> out;
  for (const Json& one : *list) {
    if (!one.is_number() || !(one.get<double>() > 0))
      rope.fail(key, fmt::format("{} is out of range: above 0", shown(one)));
    out.push_back(one.get<double>());
  }
  return out;
}

void parse_longrope(const ConfigFields& rope, int max_position, RopeConfig& out) {
  out.original_max_position =
      rope.integer_or("original_max_position_embeddings", max_position, 2, kMaxPositions);
  out.factor = rope.has("factor") ? parse_factor(rope)
                                  : std::max(1.0, double(max_position) / out.original_max_position);
  out.short_factor = parse_factors(rope, "short_factor", out.rotary_dim / 2);
  out.long_factor = parse_factors(rope, "long_factor", out.rotary_dim / 2);
  parse_attention_factor(rope, out);
}

}  // namespace

const char* name(RopeType type) {
  for (const auto& [text, value] : kRopeTypes) {
    if (type == value) return text;
  }
  return "unknown";
}

RopeConfig parse_rope(const ConfigFields& config, const RopeDialect& dialect, int max_position,
                      std::vector<std::string>& remarks) {
  Json merged = read_spelling(config, "rope_parameters", dialect);
  const Json old = read_spelling(config, "rope_scaling", dialect);
  const std::string path = merged.empty() && !old.empty() ? "rope_scaling" : "rope_parameters";
  for (const auto& [key, value] : old.items())
    agree(config, merged, "rope_scaling." + key, key, "rope_parameters." + key, value);
  for (const std::string key : {"rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}) {
    if (const Json* outer = config.find(key)) agree(config, merged, key, key, path + "." + key, *outer);
  }

  const ConfigFields rope = config.with(merged, path);
  RopeConfig out;
  out.type = parse_type(rope);
  out.pairing = dialect.pairing;
  out.rotary_dim = parse_rotary_dim(rope, dialect, out.type, remarks);
  if (!rope.has("rope_theta"))
    config.fail("rope_theta", "missing, here and in rope_parameters: there is no default to assume");
  out.theta = rope.positive("rope_theta");
  if (out.theta <= 1) rope.fail("rope_theta", fmt::format("{} is out of range: above 1", out.theta));

  switch (out.type) {
    case RopeType::standard:
      break;
    case RopeType::linear:
      out.factor = parse_factor(rope);
      break;
    case RopeType::dynamic:
      out.factor = parse_factor(rope);
      out.original_max_position =
          rope.integer_or("original_max_position_embeddings", max_position, 1, kMaxPositions);
      if (out.original_max_position != max_position)
        rope.fail(
            "original_max_position_embeddings",
            fmt::format(
                "{} differs from max_position_embeddings: {}, which is what dynamic scaling starts from",
                out.original_max_position, max_position));
      if (out.rotary_dim < 4) rope.fail("rope_type", "dynamic needs at least 4 rotary coordinates: 2");
      break;
    case RopeType::llama3:
      parse_llama3(rope, max_position, out);
      break;
    case RopeType::yarn:
      parse_yarn(rope, max_position, out);
      break;
    case RopeType::longrope:
      parse_longrope(rope, max_position, out);
      break;
  }
  return out;
}

}  // namespace blockgtq
