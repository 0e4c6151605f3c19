#include <cmath>
#include <vector>

#include "catch.h"
#include "quant/product.h"
#include "quant/random.h"

using namespace blockgtq;

TEST_CASE("a product is one fused chain per entry, whatever its shape") {
  Random random(3);
  // Around the register tile of 6 x 16, and beyond.
  for (const size_t n : {0, 1, 5, 6, 7, 13})
    for (const int depth : {1, 2, 31, 128})
      for (const int cols : {1, 2, 15, 16, 17, 50}) {
        std::vector<float> a(n * depth), b(size_t(depth) * cols), bt(b.size()), out(n * cols, -1),
            out_t(n * cols, -1);
        for (float& x : a) x = float(random.standard_normal());
        for (float& x : b) x = float(random.standard_normal());
        for (int k = 0; k < depth; ++k)
          for (int j = 0; j < cols; ++j) bt[size_t(j) * depth + k] = b[size_t(k) * cols + j];
        multiply(a.data(), n, depth, b.data(), cols, out.data());
        multiply_transposed(a.data(), n, depth, bt.data(), cols, out_t.data());
        for (size_t i = 0; i < n; ++i)
          for (int j = 0; j < cols; ++j) {
            float sum = 0;
            for (int k = 0; k < depth; ++k) sum = std::fma(a[i * depth + k], b[size_t(k) * cols + j], sum);
            REQUIRE(out[i * cols + j] == sum);
            REQUIRE(out_t[i * cols + j] == sum);
          }
      }
}
