#include "panel_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/presence.h"
#include "hf/config.h"
#include "json_input.h"
#include "options.h"
#include "quant/codebook.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

/// The value of `key`, of the type of `fallback`; a wrong type is an input error.
template <class T>
T value_of(const Json& json, const char* key, const std::string& file) {
  if (!json.is_object() || !json.contains(key)) fail_input("{}: {} is missing", file, key);
  try {
    return json.at(key).get<T>();
  } catch (const nlohmann::json::exception&) {
    fail_input("{}: {}: {} has the wrong type", file, key, json.at(key).dump());
  }
}

/// A whole number from 0 on.
int64_t count_of(const Json& json, const char* key, const std::string& file) {
  const auto value = value_of<Json>(json, key, file);
  if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t(INT64_MAX))
    fail_input("{}: {}: {} is no whole number from 0 on", file, key, value.dump());
  return value.get<int64_t>();
}

}  // namespace

PanelSpec read_panel_spec(const fs::path& path, const std::string& bits, const std::string& methods) {
  const Json json = read_json_input(path, kMaxConfigBytes);
  const std::string file = path.string();
  const auto schema = value_of<std::string>(json, "schema", file);
  if (schema != "blockgtq.panel-spec/1")
    fail_input("{}: schema: {}, blockgtq.panel-spec/1 wanted", file, schema);
  const fs::path folder = path.parent_path();
  PanelSpec spec;
  const auto calibration = value_of<Json>(json, "calibration", file),
             evaluation = value_of<Json>(json, "evaluation", file);
  spec.calibration = folder / value_of<std::string>(calibration, "text", file);
  spec.evaluation = folder / value_of<std::string>(evaluation, "text", file);
  spec.calibration_tokens = count_of(calibration, "tokens", file);
  spec.evaluation_tokens = count_of(evaluation, "tokens", file);
  spec.chunk = count_of(json, "chunk", file);
  if (!bits.empty()) {
    spec.bits = parse_bits(bits);
  } else {
    for (double b : value_of<std::vector<double>>(json, "bits", file)) {
      if (!(b >= 1 && b <= kMaxBits)) fail_input("{}: bits: {} is not in 1..{}", file, b, kMaxBits);
      spec.bits.push_back(b);
    }
    std::sort(spec.bits.begin(), spec.bits.end());
  }
  if (spec.bits.empty()) fail_input("{}: bits: none given", file);
  if (!methods.empty()) {
    spec.methods = parse_methods(methods);
  } else {
    for (const auto& m : value_of<std::vector<std::string>>(json, "methods", file)) {
      if (!find_method(key_methods(), m))
        fail_input("{}: methods: '{}' is unknown: {}", file, m, method_list(key_methods()));
      spec.methods.push_back(m);
    }
  }
  if (json.contains("allocation")) spec.allocation = allocator_options(json.at("allocation"), file);
  for (const Json& m : value_of<Json>(json, "models", file)) {
    const auto name = value_of<std::string>(m, "name", file);
    if (name.empty() || name.find('/') != std::string::npos || name[0] == '.')
      fail_input("{}: models: name '{}' cannot name a file", file, name);
    for (const PanelEntry& other : spec.models)
      if (other.name == name) fail_input("{}: models: name {} is given twice", file, name);
    const auto model_path = value_of<std::string>(m, "path", file);
    spec.models.push_back({name, is_there(folder / model_path) ? folder / model_path : fs::path(model_path)});
  }
  if (spec.models.empty()) fail_input("{}: models: none given", file);
  return spec;
}

}  // namespace blockgtq
