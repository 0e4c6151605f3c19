#include "hf/config_fields.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace blockgtq {

namespace {

constexpr size_t kMaxShown = 80;

/// A copy whose dump has the same first kMaxShown characters, however large the value is.
Json clipped(const Json& value, size_t& left) {
  if (value.is_string()) return value.get_ref<const std::string&>().substr(0, kMaxShown + 1);
  if (!value.is_structured()) return value;
  Json out = value.is_array() ? Json::array() : Json::object();
  for (auto it = value.begin(); it != value.end() && left > 0; ++it) {
    --left;  // a value takes at least one character
    if (value.is_array()) {
      out.push_back(clipped(*it, left));
    } else {
      out[it.key().substr(0, kMaxShown + 1)] = clipped(*it, left);
    }
  }
  return out;
}

}  // namespace

std::string shown(const Json& value) {
  size_t left = kMaxShown + 1;
  std::string text = clipped(value, left).dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kMaxShown) text = text.substr(0, kMaxShown) + "...";
  return text;
}

ConfigFields::ConfigFields(const Json& object, std::string name, std::string path)
    : object_(&object), name_(std::move(name)), path_(std::move(path)) {
  if (object.is_object()) return;
  fail_input("{}: {}expected a JSON object, found {}", name_, path_.empty() ? "" : path_ + ": ",
             shown(object));
}

std::string ConfigFields::message(const std::string& key, const std::string& what) const {
  return fmt::format("{}: {}{}: {}", name_, path_.empty() ? "" : path_ + ".", key, what);
}

void ConfigFields::fail(const std::string& key, const std::string& what) const {
  throw Error(Exit::input, message(key, what));
}

const Json* ConfigFields::find(const std::string& key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

bool ConfigFields::mentions(const std::string& key) const {
  return object_->contains(key);
}

int ConfigFields::integer(const std::string& key, int low, int high) const {
  const Json* value = find(key);
  if (!value) fail(key, fmt::format("missing: an integer from {} to {}", low, high));
  if (!value->is_number_integer()) fail(key, fmt::format("expected an integer, found {}", shown(*value)));
  const bool too_big = value->is_number_unsigned() && value->get<uint64_t>() > uint64_t(INT64_MAX);
  const int64_t number = too_big ? INT64_MAX : value->get<int64_t>();
  if (number < low || number > high)
    fail(key, fmt::format("{} is out of range: {} to {}", shown(*value), low, high));
  return int(number);
}

int ConfigFields::integer_or(const std::string& key, int fallback, int low, int high) const {
  return has(key) ? integer(key, low, high) : fallback;
}

std::optional<double> ConfigFields::number(const std::string& key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_number()) fail(key, fmt::format("expected a number, found {}", shown(*value)));
  const double number = value->get<double>();
  if (!std::isfinite(number)) fail(key, "expected a finite number");
  return number;
}

double ConfigFields::positive(const std::string& key) const {
  const std::optional<double> value = number(key);
  if (!value) fail(key, "missing: a number above 0");
  if (!(*value > 0)) fail(key, fmt::format("{} is out of range: above 0", shown(*find(key))));
  return *value;
}

double ConfigFields::positive_or(const std::string& key, double fallback) const {
  return has(key) ? positive(key) : fallback;
}

bool ConfigFields::flag(const std::string& key, bool fallback) const {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_boolean()) fail(key, fmt::format("expected true or false, found {}", shown(*value)));
  return value->get<bool>();
}

std::string ConfigFields::text(const std::string& key, const std::string& fallback) const {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_string()) fail(key, fmt::format("expected a string, found {}", shown(*value)));
  return value->get<std::string>();
}

}  // namespace blockgtq
