#include "gate.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "base/error.h"
#include "decimal.h"
#include "report/number.h"

namespace blockgtq {

Gate::Gate(const std::string& text) {
  const size_t at = text.find_first_of("<>");
  const std::optional<double> limit =
      at == std::string::npos ? std::nullopt : parse_decimal(std::string_view(text).substr(at + 1));
  metric_ = text.substr(0, at);
  const bool known = metric_ == "kl" || metric_ == "kl99" || metric_ == "ratio" || metric_ == "top";
  if (!known || !limit)
    throw Error(
        Exit::usage,
        fmt::format("--fail-if: '{}' is not kl, kl99, ratio or top, then > or <, then a number", text));
  above_ = text[at] == '>';
  limit_ = *limit;
}

double Gate::value(const Quality& q) const {
  if (metric_ == "kl") return q.kl_mean;
  if (metric_ == "kl99") return q.kl_p99;
  if (metric_ == "ratio") return std::exp(q.log_ratio);
  return q.same_top;
}

bool Gate::fails(const Quality& quality) const {
  const double found = value(quality);
  return std::isnan(found) || (above_ ? found > limit_ : found < limit_);
}

std::string Gate::text(const Quality& quality) const {
  return fmt::format("{} {} {} {:g}", metric_, exact(value(quality)), above_ ? ">" : "<", limit_);
}

}  // namespace blockgtq
