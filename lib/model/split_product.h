#pragma once
#include <cstdint>

#include "quant/product.h"

namespace blockgtq {

/// Products of float32 numbers by AMX, which multiplies bf16: every number is the exact sum of up to three
/// bf16 terms, and the products of terms that reach float32's last digit are added up in float32. oneMKL
/// calls this bf16x3. The error is that of a float32 sum in another order; a number below 2^-102 may lose its
/// last terms.
///
/// Whether this processor has the tiles and the system lets this process use them.
bool has_split_products();

/// What linear() multiplies by from now on, of all threads: split products (only where has_split_products()),
/// or one chain of fused multiply-adds per output, which has the same bits on every processor. The latter is
/// the default. Not to be called while linear() runs.
void use_split_products(bool use);
bool uses_split_products();

/// 32 bf16 numbers.
struct alignas(64) SplitLine {
  uint16_t halves[32];
};

/// Lines of one panel: kPanel columns of the right side, `depth` deep.
int64_t split_panel_lines(int64_t depth);

/// b (cols, depth), rows `stride` apart, cols <= kPanel, into a panel. Returns how many terms its numbers
/// have: 1 for bf16 numbers, 2 for fp16, at most 3. What is kept in the panel depends on it.
int split_panel(const float* b, int64_t stride, int64_t depth, int64_t cols, SplitLine* panel);

/// out (n, cols) = a (n, depth) b^T. panels: of split_panel(), split_panel_lines(depth) apart; terms: of
/// every panel. An output depends neither on n nor on other columns.
void split_multiply(Rows<const float> a, int64_t n, int64_t depth, const SplitLine* panels, const int* terms,
                    int64_t cols, Rows<float> out);

}  // namespace blockgtq
