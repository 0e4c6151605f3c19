#pragma once
#include <cstdint>
#include <vector>

#include "base/blocks.h"
#include "kernels/codes/code_tables.h"

namespace blockgtq::cuda {

/// The cos/sin table of the logit error in device memory, in rows of float4.
class LogitTable {
 public:
  /// metric: the blocks that RoPE rotates. table (2 * rotary blocks, n_offsets): cosines, then sines.
  LogitTable(const BlockLayout& metric, const std::vector<float>& table, int n_offsets, const Stream& stream);
  const BlockLayout& metric() const { return metric_; }
  int n_offsets() const { return n_offsets_; }
  const float* data() const { return data_.as<float>(); }

 private:
  BlockLayout metric_;
  int n_offsets_;
  Buffer data_;  // (2n, offsets), both padded to multiples of 4 with zeros
};

/// One layer's activations and the quantizers to score on them. Job j < n_jobs takes quantizer first + j, KV
/// head j % H and its group of query heads.
struct LogitJobs {
  const CodeTables* tables = nullptr;
  int first = 0, n_jobs = 0;
  int n_heads = 0, n_kv_heads = 0;  // Hq, H
  const float* q = nullptr;         // (T, Hq, D)
  const float* k = nullptr;         // (T, H, D)
  int64_t n_tokens = 0;
};

/// The results of all jobs in device memory, (n_jobs) each.
struct LogitSums {
  double* errors = nullptr;     // sum over tokens, query heads and offsets of |err|
  uint64_t* clipped = nullptr;  // fp16 norms at the end of the range, 65504
};

/// Fills `sums`. scratch holds logit_scratch() doubles. Codes and every err equal the CPU's to the last bit.
/// The sum runs in a fixed order of its own.
void logit_error(const LogitJobs& jobs, const LogitTable& table, const LogitSums& sums, double* scratch,
                 const Stream& stream);
int64_t logit_scratch(const LogitJobs& jobs);

}  // namespace blockgtq::cuda
