#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "base/json.h"
#include "quant/share.h"

namespace blockgtq {

/// How a budget becomes bits, as allocate, calibrate and panel take it from the command line and a panel.json
/// from its "allocation".
struct AllocatorOptions {
  std::string cost, norms = "group", allocator = "greedy", allowed_bits, share = "head", equal = "head";
  int min_bits = 1, max_bits = 8, max_groups = 8, group_blocks = 1;
};

void add_allocator_options(CLI::App& command, AllocatorOptions& options);

/// --centres: of keys and of values that a map holds, a power of two.
void add_centres_option(CLI::App& command, int& centres);

/// {"allocator": "mixing", "allowed_bits": [2, 3, 4, 8], ...}: the options with _ for -. Exit::input, with
/// `file`, for what no option is or allows.
AllocatorOptions allocator_options(const Json& json, const std::string& file);

/// `below`, and over it what the command line or the environment gave.
AllocatorOptions given_over(const CLI::App& command, const AllocatorOptions& given, AllocatorOptions below);

/// " --cost packed --max-groups 3": what differs from `from`; empty where nothing does.
std::string difference(const AllocatorOptions& options, const AllocatorOptions& from);

/// Exit::usage for what does not go together. `cost`: where none is named.
ShareSpec share_spec(const AllocatorOptions& options, CostKind cost = CostKind::nominal);

}  // namespace blockgtq
