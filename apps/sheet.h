#pragma once
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"

namespace blockgtq {

/// Key and value, one per line; the JSON holds the same under the same names.
class Sheet {
 public:
  void add(const std::string& key, const Json& value) { json_[key] = value; }
  std::string text() const {
    std::string text;
    for (const auto& [key, value] : json_.items()) {
      if (value.is_array() && !value.empty() && value.front().is_object()) continue;  // a table of its own
      std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
      if (value.is_array() && value.size() > 8)
        shown = fmt::format("{} values, {} to {}", value.size(), value.front().dump(), value.back().dump());
      text += fmt::format("{:<20} {}\n", key, shown);
    }
    return text;
  }
  const Json& json() const { return json_; }

 private:
  Json json_ = Json::object();
};

}  // namespace blockgtq
