#include "gate.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "base/error.h"
#include "decimal.h"
#include "report/number.h"

namespace blockgtq {

Gate::Gate(const std::string& text, const std::string& metrics) {
  const size_t at = text.find_first_of("<>");
  const std::optional<double> limit =
      at == std::string::npos ? std::nullopt : parse_decimal(std::string_view(text).substr(at + 1));
  metric_ = text.substr(0, at);
  if (metric_.empty() || !limit)
    throw Error(Exit::usage,
                fmt::format("--fail-if: '{}' is not {}, then > or <, then a number", text, metrics));
  above_ = text[at] == '>';
  limit_ = *limit;
}

bool Gate::fails(double found) const {
  return std::isnan(found) || (above_ ? found > limit_ : found < limit_);
}

std::string Gate::text(double found) const {
  return fmt::format("{} {} {} {:g}", metric_, exact(found), above_ ? ">" : "<", limit_);
}

}  // namespace blockgtq
