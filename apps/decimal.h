#pragma once
#include <CLI/CLI.hpp>

#include "base/decimal.h"

namespace blockgtq {

/// Makes every numeric option of the application and of its commands take these numbers only, wherever the
/// value comes from: command line, environment or file. CLI11 itself reads by C's rules, and clamps what is
/// too large.
void require_decimal_numbers(CLI::App& app);

}  // namespace blockgtq
