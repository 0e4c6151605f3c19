#include "model/split_product.h"

#include <cmath>
#include <utility>
#include <vector>

#include "base/float16.h"
#include "catch.h"
#include "quant/random.h"

using namespace blockgtq;

namespace {

enum class Rounded { to_bf16, to_fp16, not_at_all };

std::vector<float> normals(size_t n, uint64_t seed, Rounded rounded) {
  Random random(seed);
  std::vector<float> out(n);
  for (float& x : out) {
    x = float(random.standard_normal());
    if (rounded == Rounded::to_bf16) x = from_bf16(to_bf16(x));
    if (rounded == Rounded::to_fp16) x = from_half(to_half(x));
  }
  return out;
}

struct Panels {
  std::vector<SplitLine> lines;
  std::vector<int> terms;

  /// b (cols, depth)
  Panels(const std::vector<float>& b, int64_t depth, int64_t cols) {
    const int64_t n = (cols + kPanel - 1) / kPanel, size = split_panel_lines(depth);
    lines.resize(size_t(n * size));
    for (int64_t p = 0; p < n; ++p)
      terms.push_back(split_panel(b.data() + p * kPanel * depth, depth, depth,
                                  std::min(kPanel, cols - p * kPanel), lines.data() + p * size));
  }
};

}  // namespace

TEST_CASE("split products are as near as float32 sums are, whatever the shape") {
  if (!has_split_products()) {
    WARN("skipped: this processor has no AMX");
    return;
  }
  for (const auto& [rounded, additions] :
       {std::pair{Rounded::to_bf16, 3}, {Rounded::to_fp16, 5}, {Rounded::not_at_all, 6}})
    for (const int64_t n : {1, 16, 31, 33, 65})
      for (const int64_t depth : {1, 31, 32, 33, 128, 129, 300})
        for (const int64_t cols : {1, 16, 33, 64}) {
          const std::vector<float> a = normals(size_t(n * depth), 1, Rounded::not_at_all),
                                   b = normals(size_t(cols * depth), 2, rounded);
          const Panels panels(b, depth, cols);
          const int64_t stride = cols + 3;
          std::vector<float> out(size_t(n * stride), -7.0f);
          split_multiply({a.data(), depth}, n, depth, panels.lines.data(), panels.terms.data(), cols,
                         {out.data(), stride});
          double worst = 0;
          for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < stride; ++j) {
              const double got = out[size_t(i * stride + j)];
              if (j >= cols) {
                REQUIRE(got == -7);  // what lies beside the result stays
                continue;
              }
              double sum = 0, size = 0;
              for (int64_t k = 0; k < depth; ++k) {
                const double term = double(a[size_t(i * depth + k)]) * double(b[size_t(j * depth + k)]);
                sum += term, size += std::abs(term);
              }
              // A float32 sum is off by at most eps times the sum of its terms' sizes for each of its
              // additions: three, five or six for a product.
              worst = std::max(worst, std::abs(got - sum) / (double(additions * depth + 2) * 0x1p-24 * size));
            }
          INFO(n << " x " << depth << " x " << cols);
          CHECK(worst <= 1);
        }
}

TEST_CASE("numbers are split into as many terms as they have") {
  if (!has_split_products()) {
    WARN("skipped: this processor has no AMX");
    return;
  }
  CHECK(Panels(normals(32 * 70, 3, Rounded::to_bf16), 70, 32).terms == std::vector{1});
  CHECK(Panels(normals(32 * 70, 3, Rounded::to_fp16), 70, 32).terms == std::vector{2});
  CHECK(Panels(normals(32 * 70, 3, Rounded::not_at_all), 70, 32).terms == std::vector{3});
}
