#pragma once
#include <CLI/CLI.hpp>

#include "eval/sampler.h"

namespace blockgtq {

/// --temperature, --top-k and --top-p; the values are the defaults.
void add_sampling_options(CLI::App& command, Sampling& sampling);

}  // namespace blockgtq
