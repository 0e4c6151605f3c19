#include "quant/method_choice.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

Json score_json(const MethodScore& score) {
  return {{"method", score.method},
          {"code", name(score.code)},
          {"bytes_per_token", score.bytes},
          {"kl", score.kl},
          {"kl_error", score.kl_error}};
}

MethodScore parse_score(const Json& json) {
  MethodScore score;
  score.method = json.at("method").get<std::string>();
  score.code = json.at("code") == name(Code::trellis) ? Code::trellis : Code::scalar;
  score.bytes = json.at("bytes_per_token").get<double>();
  score.kl = json.at("kl").get<double>();
  score.kl_error = json.at("kl_error").get<double>();
  return score;
}

MethodChoice parse_choice(const Json& json) {
  MethodChoice choice;
  choice.side = json.at("side") == name(Side::values) ? Side::values : Side::keys;
  choice.bits = json.at("bits").get<double>();
  choice.n_tokens = json.at("tokens").get<int64_t>();
  choice.exact = {json.value("sink", int64_t(0)), json.value("recent", int64_t(0))};
  for (const Json& score : json.at("candidates")) choice.candidates.push_back(parse_score(score));
  while (choice.best < choice.candidates.size() &&
         (json.at("method") != choice.chosen().method || json.at("code") != name(choice.chosen().code)))
    ++choice.best;
  return choice;
}

/// What makes a choice one that we would not write; empty where there is nothing.
std::string fault(const MethodChoice& choice) {
  if (choice.best >= choice.candidates.size()) return "the method chosen is none of the candidates";
  if (!(choice.bits >= 1 && choice.bits <= kMaxBits))
    return fmt::format("{} bits, allowed 1 to {}", choice.bits, kMaxBits);
  if (choice.n_tokens < 1) return fmt::format("{} tokens", choice.n_tokens);
  if (choice.exact.sink < 0 || choice.exact.recent < 0)
    return fmt::format("{} and {} exact positions", choice.exact.sink, choice.exact.recent);
  const std::vector<Method>& methods = choice.side == Side::keys ? key_methods() : value_methods();
  for (const MethodScore& score : choice.candidates) {
    const Method* method = find_method(methods, score.method);
    if (!method) return fmt::format("{} is no method of {}", score.method.substr(0, 100), name(choice.side));
    if (score.code == Code::trellis && !method->trellis) return score.method + " has no trellis codes";
    if (method->whole_bits && choice.bits != std::floor(choice.bits))
      return fmt::format("{} takes whole bits: {}", score.method, choice.bits);
  }
  return "";
}

}  // namespace

const char* name(Side side) {
  return side == Side::keys ? "keys" : "values";
}

Json choices_json(const std::vector<MethodChoice>& choices) {
  Json list = Json::array();
  for (const MethodChoice& choice : choices) {
    Json row = {{"side", name(choice.side)}, {"bits", choice.bits}, {"tokens", choice.n_tokens}};
    if (choice.exact.sink != 0) row["sink"] = choice.exact.sink;
    if (choice.exact.recent != 0) row["recent"] = choice.exact.recent;
    row.update(score_json(choice.chosen()));
    row["tq_mse_kl"] = choice.candidates[0].kl;
    row["candidates"] = Json::array();
    for (const MethodScore& score : choice.candidates) row["candidates"].push_back(score_json(score));
    list.push_back(std::move(row));
  }
  return list;
}

std::vector<MethodChoice> parse_choices(const Json& json, const std::string& name) {
  std::vector<MethodChoice> choices;
  try {
    for (const Json& row : json) choices.push_back(parse_choice(row));
  } catch (const Json::exception&) {
    fail_input("{}: not a list of choices", name);
  }
  for (const MethodChoice& choice : choices)
    if (const std::string what = fault(choice); !what.empty()) fail_input("{}: {}", name, what);
  // Redundant fields must agree with the rest, and there must be no other fields.
  if (choices_json(choices) != json) fail_input("{}: other than its candidates say", name);
  return choices;
}

}  // namespace blockgtq
