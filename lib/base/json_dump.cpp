#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace blockgtq {
namespace {

void put_string(std::string& out, const Json& text) {
  // A path may hold bytes that are not UTF-8. They become U+FFFD instead of a failure at the end of a long
  // run.
  out += text.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void put_double(std::string& out, double v) {
  check(std::isfinite(v), "a number for JSON is not finite");
  const size_t start = out.size();
  out += fmt::format("{:.17g}", v);
  // It must read back as a double; as an integer -0 would lose its sign.
  if (out.find_first_of(".e", start) == out.npos) out += ".0";
}

bool one_line(const Json& v) {
  return std::all_of(v.begin(), v.end(), [](const Json& e) { return e.is_number(); });
}

void put(std::string& out, const Json& v, size_t indent);

void put_array(std::string& out, const Json& v, size_t indent) {
  const bool line = one_line(v);
  out += '[';
  bool first = true;
  for (const Json& e : v) {
    if (!first) out += line ? ", " : ",";
    first = false;
    if (!line) out.append(1, '\n').append(indent + 2, ' ');
    put(out, e, indent + 2);
  }
  if (!line) out.append(1, '\n').append(indent, ' ');
  out += ']';
}

void put_object(std::string& out, const Json& v, size_t indent) {
  out += '{';
  bool first = true;
  for (const auto& [key, value] : v.items()) {
    if (!first) out += ',';
    first = false;
    out.append(1, '\n').append(indent + 2, ' ');
    put_string(out, Json(key));
    out += ": ";
    put(out, value, indent + 2);
  }
  if (!first) out.append(1, '\n').append(indent, ' ');
  out += '}';
}

void put(std::string& out, const Json& v, size_t indent) {
  switch (v.type()) {
    case Json::value_t::null:
      out += "null";
      return;
    case Json::value_t::boolean:
      out += v.get<bool>() ? "true" : "false";
      return;
    case Json::value_t::number_integer:
      out += fmt::format("{}", v.get<int64_t>());
      return;
    case Json::value_t::number_unsigned:
      out += fmt::format("{}", v.get<uint64_t>());
      return;
    case Json::value_t::number_float:
      put_double(out, v.get<double>());
      return;
    case Json::value_t::string:
      put_string(out, v);
      return;
    case Json::value_t::array:
      put_array(out, v, indent);
      return;
    case Json::value_t::object:
      put_object(out, v, indent);
      return;
    default:
      check(false, "a value that JSON has no text for");
  }
}

}  // namespace

std::string dump_json(const Json& value) {
  std::string out;
  put(out, value, 0);
  out += '\n';
  return out;
}

}  // namespace blockgtq
