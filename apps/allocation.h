#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "allocator_options.h"
#include "base/file.h"
#include "options.h"
#include "quant/bit_map.h"
#include "result_files.h"

namespace blockgtq {

/// What allocate and calibrate ask of the allocator.
struct AllocationOptions {
  AllocatorOptions allocator;
  std::string bits, memory, json;
  int resamples = 100, centres = kCentres;
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

/// calibration: as make_bit_map's.
BitMap allocate(const Stats& stats, const AllocationOptions& options,
                std::vector<HeadCalibration> calibration = {});

/// Writes a map of allocate() to `file`, and `files` with it: what it costs and what it chose as tables, or
/// as JSON (schema blockgtq.allocate/1). With -v or --json also how far the bits depend on the text.
void write_and_report(const BitMap& map, const Stats& stats, const AllocationOptions& options,
                      OutputFile& file, ResultFiles& files, const GlobalOptions& global);

}  // namespace blockgtq
