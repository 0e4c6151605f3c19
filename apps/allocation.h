#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "allocator_options.h"
#include "base/file.h"
#include "options.h"
#include "quant/bit_map.h"

namespace blockgtq {

/// What allocate and calibrate ask of the allocator.
struct AllocationOptions {
  AllocatorOptions allocator;
  std::string bits, memory, json;
  int resamples = 100;
  double bytes_per_token = 0;
  int64_t context = 0;

  /// Whether the budget is given in bytes.
  bool in_bytes() const { return bytes_per_token > 0 || !memory.empty(); }
};

void add_allocation_options(CLI::App& command, AllocationOptions& options);

/// Exit::usage for what is wrong whatever the model: checked before anything is read.
void check_allocation(const AllocationOptions& options);
/// Exit::usage for what is wrong for this model: checked before its forward pass.
void check_allocation(const AllocationOptions& options, const AttentionShape& shape);

/// Makes the map, commits it to `file`, and prints what it costs: a table, or JSON (schema
/// blockgtq.allocate/1). With -v or --json also how far the bits depend on the text.
void allocate_and_report(const Stats& stats, const AllocationOptions& options, const OutputOptions& output,
                         OutputFile& file, const GlobalOptions& global);

}  // namespace blockgtq
