#include "decimal.h"

#include <fmt/format.h>

#include <string>

namespace blockgtq {
namespace {

/// Empty where `text` is a number of the kind, else what is wrong with it.
std::string fault(const std::string& text, const std::string& kind) {
  const bool is_float = kind.starts_with("FLOAT");
  if (is_float                   ? parse_decimal(text).has_value()
      : kind.starts_with("UINT") ? parse_unsigned(text).has_value()
                                 : parse_whole(text).has_value())
    return "";
  const std::string wanted = is_float ? "a decimal number" : "a decimal whole number";
  const size_t first = text.starts_with('-') ? 1 : 0;
  if (text.size() > first && text.find_first_not_of("0123456789", first) == std::string::npos) {
    if (has_leading_zero(text)) return fmt::format("'{}' begins with a zero, {} is expected", text, wanted);
    return fmt::format("'{}' is out of range", text);
  }
  return fmt::format("'{}' is not {}", text, wanted);
}

}  // namespace

void require_decimal_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string kind = option->get_type_name();
    if (!kind.starts_with("INT") && !kind.starts_with("UINT") && !kind.starts_with("FLOAT")) continue;
    // A transform runs before the checks that are there already.
    CLI::Validator decimal([kind](std::string& text) { return fault(text, kind); }, "");
    option->transform(decimal);
  }
  for (CLI::App* command : app.get_subcommands({})) require_decimal_numbers(*command);
}

}  // namespace blockgtq
