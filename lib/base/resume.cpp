#include "base/resume.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace blockgtq {

std::string differences(const Json& file, const Json& here) {
  std::string text;
  const auto value = [](const Json& of, const std::string& name) {
    const auto found = of.find(name);
    return found == of.end() ? "nothing" : found->is_string() ? found->get<std::string>() : found->dump();
  };
  const auto compare = [&](const std::string& name) {
    const std::string a = value(file, name), b = value(here, name);
    if (a != b) text += fmt::format("{}{}: {} in the file, {} here", text.empty() ? "" : "; ", name, a, b);
  };
  for (const auto& [name, unused] : here.items()) compare(name);
  for (const auto& [name, unused] : file.items())
    if (!here.contains(name)) compare(name);
  return text;
}

}  // namespace blockgtq
