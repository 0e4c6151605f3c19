#include "model/matmul.h"

#include <cmath>

#include "base/float16.h"
#include "base/parallel.h"
#include "catch.h"
#include "model/split_product.h"
#include "worse.h"

using namespace blockgtq;
using test::worse;

namespace {

/// Uniform in (-1, 1), the same on every machine.
std::vector<float> noise(size_t n, uint64_t state) {
  std::vector<float> out(n);
  for (float& x : out) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    x = float(int64_t(state) >> 40) * 0x1p-23f;
  }
  return out;
}

struct Matrix {
  std::vector<uint16_t> bits;
  std::vector<float> values;
  Linear linear;

  Matrix(int64_t rows, int64_t cols, uint64_t seed, bool bias = false)
      : values(noise(size_t(rows * cols), seed)) {
    for (float& v : values) {
      bits.push_back(to_bf16(v));
      v = from_bf16(bits.back());
    }
    linear.weight.dtype = DType::bf16;
    linear.weight.shape = {rows, cols};
    linear.weight.data = std::as_bytes(std::span(bits));
    if (bias) {
      linear.bias = linear.weight;  // the first numbers of the matrix
      linear.bias->shape = {rows};
      linear.bias->data = linear.weight.data.first(size_t(rows) * 2);
    }
  }
};

/// body() by each kind of product that this processor has.
template <class Body>
void by_each_product(const Body& body) {
  body();
  if (!has_split_products()) return;
  use_split_products(true);
  INFO("split products");
  body();
  use_split_products(false);
}

}  // namespace

TEST_CASE("linear() is x W^T + b, also at the edges of its tiles") {
  by_each_product([] {
    struct Shape {
      int64_t n, rows, cols;
    };
    // Row tiles are 64, 128 or 256, token tiles 512, depth tiles 4096; products of sizes below 20 in all go
    // their own way.
    const Shape shapes[] = {{1, 1, 1},     {1, 64, 1},    {3, 5, 7},     {2, 65, 33},   {17, 63, 16},
                            {511, 64, 8},  {512, 64, 8},  {513, 64, 8},  {1, 511, 40},  {4, 513, 40},
                            {2, 2049, 16}, {3, 70, 4095}, {3, 70, 4096}, {3, 70, 4097}, {1, 10, 9000}};
    for (const Shape& s : shapes) {
      for (const bool bias : {false, true}) {
        const Matrix w(s.rows, s.cols, 1 + uint64_t(s.rows), bias);
        const std::vector<float> x = noise(size_t(s.n * s.cols), 99);
        std::vector<float> y(size_t(s.n * s.rows), std::nanf(""));
        linear(w.linear, x.data(), s.n, y.data());
        double worst = 0;
        for (int64_t t = 0; t < s.n; ++t)
          for (int64_t r = 0; r < s.rows; ++r) {
            double sum = bias ? double(w.values[size_t(r)]) : 0, size = std::abs(sum);
            for (int64_t c = 0; c < s.cols; ++c) {
              const double term =
                  double(x[size_t(t * s.cols + c)]) * double(w.values[size_t(r * s.cols + c)]);
              sum += term;
              size += std::abs(term);
            }
            // A float32 sum of m terms is off by at most (m + 1) eps times the sum of their sizes, in any
            // order.
            const double bound = double(s.cols + 2) * 0x1p-24 * size + 1e-30;
            worst = worse(worst, std::abs(double(y[size_t(t * s.rows + r)]) - sum) / bound);
          }
        INFO(s.n << " x " << s.rows << " x " << s.cols);
        CHECK(worst <= 1);
      }
    }
  });
}

TEST_CASE("linear() gives the same bytes for any number of threads") {
  by_each_product([] {
    const int before = threads();
    const Matrix w(700, 300, 3, true);
    const std::vector<float> x = noise(600 * 300, 4);
    std::vector<float> one(600 * 700), more(600 * 700);
    set_threads(1);
    linear(w.linear, x.data(), 600, one.data());
    for (int n : {2, 3, 7}) {
      set_threads(n);
      std::fill(more.begin(), more.end(), 0.0f);
      linear(w.linear, x.data(), 600, more.data());
      CHECK(one == more);
    }
    set_threads(before);
  });
}

TEST_CASE("a token's product does not depend on the tokens beside it, to the last bit") {
  by_each_product([] {
    for (const int64_t cols : {64, 200}) {
      const Matrix m(96, cols, 11, true);
      const int64_t n = 23;
      const std::vector<float> x = noise(size_t(n * cols), 12);
      std::vector<float> together(size_t(n * 96));
      linear(m.linear, x.data(), n, together.data());
      for (const int64_t count : {1, 2, 3, 5, 7})
        for (int64_t first = 0; first + count <= n; ++first) {
          std::vector<float> some(size_t(count * 96));
          linear(m.linear, x.data() + first * cols, count, some.data());
          CHECK(std::equal(some.begin(), some.end(), together.begin() + first * 96));
        }
    }
  });
}
