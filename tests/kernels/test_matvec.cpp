// Products with a few vectors, and the small kernels around them in a decoding step, against double
// precision.
#include "cache/exact_page.h"
#include "device_arrays.h"
#include "kernels/cache/kv_lengths.h"
#include "kernels/forward/matvec.h"
#include "kernels/forward/tokens.h"

using namespace blockgtq;
using namespace blockgtq::test;
using cuda::FloatType;

namespace {

enum class Vectors { plain, normed, half, low };

struct Case {
  FloatType type;
  int64_t rows, cols;
  int n;
  Vectors vectors;
  bool gated = false, add = false, best = false;
};

double silu(double g) {
  return g / (1 + std::exp(-g));
}

/// What rounding to a type costs at most, relative to a number.
double unit(FloatType type) {
  return type == FloatType::f32 ? 0x1p-24 : type == FloatType::f16 ? 0x1p-11 : 0x1p-8;
}

void check_case(const Case& c) {
  CAPTURE(int(c.type), c.rows, c.cols, c.n, int(c.vectors), c.gated, c.add, c.best);
  Random random;
  CAPTURE(random.seed);
  const cuda::Stream stream;
  const auto w = rounded(random.normal(c.rows * c.cols), c.type);
  auto x = random.normal(c.n * c.cols);
  const FloatType x_type = c.vectors == Vectors::half  ? FloatType::f16
                           : c.vectors == Vectors::low ? c.type
                                                       : FloatType::f32;
  x = rounded(x, x_type);
  const auto bias = random.normal(c.rows), norm = random.normal(c.cols), before = random.normal(c.n * c.rows);
  const cuda::Buffer on_w = to_device(encode(w, c.type), stream), on_x = to_device(encode(x, x_type), stream),
                     on_bias = to_device(bias, stream), on_norm = to_device(norm, stream);
  const cuda::Buffer y = c.add ? to_device(before, stream) : poisoned(c.n * c.rows * 4, stream);
  const int64_t n_best = cuda::n_candidates(c.rows);
  const cuda::Buffer best = poisoned(c.n * n_best * int64_t(sizeof(cuda::Candidate)), stream);
  cuda::MatVec p;
  p.w = on_w.as();
  p.type = c.type;
  p.rows = c.rows;
  p.cols = c.cols;
  p.n = c.n;
  if (c.vectors == Vectors::half)
    p.x_half = on_x.as();
  else if (c.vectors == Vectors::low)
    p.x_low = on_x.as();
  else
    p.x = on_x.as<float>();
  if (c.vectors == Vectors::normed) {
    p.norm_weight = on_norm.as<float>();
    p.norm_offset = 1;
    p.norm_eps = 1e-5f;
  }
  p.bias = on_bias.as<float>();
  p.scale = 0.5f;
  p.add = c.add;
  if (c.gated)
    p.gated = y.as();
  else
    p.y = y.as<float>();
  if (c.best) p.best = best.as<cuda::Candidate>();
  cuda::matvec(p, stream);
  stream.synchronize();

  // Vectors are rounded to the product's type; a root that differs in its last bit may round one the other
  // way.
  const double rounding =
      c.vectors == Vectors::low || c.vectors == Vectors::plain ? unit(FloatType::f32) : 2 * unit(c.type);
  std::vector<double> want(size_t(c.n * c.rows)), room(want.size());
  for (int b = 0; b < c.n; ++b) {
    std::vector<float> v(x.begin() + b * c.cols, x.begin() + (b + 1) * c.cols);
    if (c.vectors == Vectors::normed) {
      double sum = 0;
      for (const float value : v) sum += double(value) * value;
      const double root = 1 / std::sqrt(sum / double(c.cols) + 1e-5);
      for (int64_t k = 0; k < c.cols; ++k)
        v[size_t(k)] = float(v[size_t(k)] * root * (norm[size_t(k)] + 1.0));
    }
    v = rounded(v, c.type);
    for (int64_t r = 0; r < c.rows; ++r) {
      double sum = 0, size = 0;
      for (int64_t k = 0; k < c.cols; ++k) {
        const double product = double(w[size_t(r * c.cols + k)]) * v[size_t(k)];
        sum += product;
        size += std::abs(product);
      }
      const auto i = size_t(b * c.rows + r);
      want[i] = 0.5 * (sum + bias[size_t(r)]) + (c.add ? before[i] : 0.0);
      room[i] = size * (rounding + double(c.cols) * 0x1p-24) + 1e-6 * (1 + std::abs(want[i]));
    }
  }
  const auto got =
      c.gated
          ? decode(to_host<unsigned char>(y.as(), c.n * c.rows / 2 * cuda::bytes_of(c.type), stream), c.type)
          : to_host<float>(y.as(), c.n * c.rows, stream);
  for (int b = 0; b < c.n; ++b)
    for (int64_t r = 0; r < (c.gated ? c.rows / 2 : c.rows); ++r) {
      auto i = size_t(b * c.rows + r);
      double expected = want[i], allowed = room[i];
      double found = got[size_t(b * (c.gated ? c.rows / 2 : c.rows) + r)];
      if (c.gated) {
        const size_t up = i + size_t(c.rows / 2);
        expected = silu(want[i]) * want[up];
        allowed = 1.2 * room[i] * std::abs(want[up]) + (std::abs(want[i]) + room[i]) * room[up] +
                  unit(c.type) * std::abs(expected) + 1e-6;
      }
      REQUIRE(std::abs(found - expected) <= allowed);
    }
  if (!c.best) return;
  const auto candidates = to_host<cuda::Candidate>(best.as(), c.n * n_best, stream);
  for (int b = 0; b < c.n; ++b) {
    const float* const row = got.data() + b * c.rows;
    cuda::Candidate top = candidates[size_t(b * n_best)];
    for (int64_t i = 1; i < n_best; ++i)
      if (candidates[size_t(b * n_best + i)].value > top.value) top = candidates[size_t(b * n_best + i)];
    CHECK(top.row == std::max_element(row, row + c.rows) - row);
    CHECK(top.value == *std::max_element(row, row + c.rows));
  }
}

}  // namespace

TEST_CASE("matrices times a few vectors", "[matvec]") {
  if (!has_device()) return;
  for (const FloatType type : {FloatType::f32, FloatType::bf16, FloatType::f16})
    for (const int n : {1, 3, 8, 9, 16})
      for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 8}, {100, 264}, {2560, 2048}}) {
        for (const Vectors v : {Vectors::plain, Vectors::normed, Vectors::half, Vectors::low})
          check_case({type, rows, cols, n, v});
        check_case({type, rows, cols, n, Vectors::low, false, true});
        check_case({type, rows, cols, n, Vectors::normed, false, false, true});
        if (rows % 2 == 0) check_case({type, rows, cols, n, Vectors::normed, true});
      }
}

TEST_CASE("matrices of many rows times a few vectors", "[matvec]") {
  if (!has_device()) return;
  for (const int n : {1, 10}) {
    check_case({FloatType::bf16, 20000, 264, n, Vectors::normed, true});  // two tiles to a block
    check_case({FloatType::bf16, 17003, 264, n, Vectors::normed, false, false, true});
    check_case({FloatType::f16, 40010, 136, n, Vectors::normed, false, false, true});  // four
    check_case({FloatType::f32, 40010, 136, n, Vectors::low, true});
  }
}

TEST_CASE("a logit that is not finite is named", "[matvec]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  const int64_t rows = 1000, cols = 64, n_best = cuda::n_candidates(rows);
  std::vector<float> w(size_t(rows * cols), 1.0f), x(size_t(2 * cols), 1.0f);
  w[size_t(rows / 2 * cols + 3)] = INFINITY;
  x[size_t(cols + 3)] = 0;  // infinity times nothing
  const cuda::Buffer on_w = to_device(w, stream), on_x = to_device(x, stream),
                     y = poisoned(2 * rows * 4, stream), best = poisoned(2 * n_best * 8, stream),
                     tokens = to_device(std::vector<int32_t>{7, 7}, stream),
                     positions = to_device(std::vector<int32_t>{5, 9}, stream),
                     faults = to_device(std::vector<int32_t>{0, 0}, stream);
  cuda::MatVec p;
  p.w = on_w.as();
  p.rows = rows;
  p.cols = cols;
  p.n = 2;
  p.x_low = on_x.as();
  p.y = y.as<float>();
  p.best = best.as<cuda::Candidate>();
  cuda::matvec(p, stream);
  cuda::ChooseTokens choose;
  choose.best = best.as<cuda::Candidate>();
  choose.n = n_best;
  choose.batch = 2;
  choose.tokens = tokens.as<int32_t>();
  choose.positions = positions.as<int32_t>();
  choose.faults = faults.as<int32_t>();
  cuda::choose_tokens(choose, stream);
  CHECK(to_host<int32_t>(faults.as(), 2, stream) == std::vector<int32_t>{501, 501});
  CHECK(to_host<int32_t>(tokens.as(), 2, stream) == std::vector<int32_t>{7, 7});
  CHECK(to_host<int32_t>(positions.as(), 2, stream) == std::vector<int32_t>{6, 10});
}

TEST_CASE("the likeliest token, and the rows of tokens", "[matvec]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  Random random;
  CAPTURE(random.seed);
  for (const int64_t n : {int64_t(1), int64_t(33), int64_t(5000)}) {
    std::vector<cuda::Candidate> best;
    std::vector<int32_t> want;
    for (int b = 0; b < 3; ++b) {
      const auto values = random.normal(n);
      for (int64_t i = 0; i < n; ++i) best.push_back({values[size_t(i)], int32_t(8 * i + 1)});
      const auto top = std::max_element(values.begin(), values.end()) - values.begin();
      want.push_back(int32_t(8 * top + 1));
      if (b == 1 && n > 1) {  // the same value twice: the lower row
        best[size_t(b * n + n - 1)].value = values[size_t(top)];
      }
    }
    const cuda::Buffer on_best = to_device(best, stream), tokens = poisoned(12, stream),
                       positions = to_device(std::vector<int32_t>{0, 1, 2}, stream),
                       faults = to_device(std::vector<int32_t>{0, 0, 0}, stream);
    cuda::choose_tokens({on_best.as<cuda::Candidate>(), n, 3, tokens.as<int32_t>(), positions.as<int32_t>(),
                         faults.as<int32_t>()},
                        stream);
    CHECK(to_host<int32_t>(tokens.as(), 3, stream) == want);
    CHECK(to_host<int32_t>(positions.as(), 3, stream) == std::vector<int32_t>{1, 2, 3});
  }
  const int64_t hidden = 300;
  const auto table = rounded(random.normal(50 * hidden), FloatType::bf16);
  const cuda::Buffer on_table = to_device(encode(table, FloatType::bf16), stream),
                     tokens = to_device(std::vector<int32_t>{49, 0}, stream),
                     x = poisoned(2 * hidden * 4, stream);
  cuda::embed_tokens({on_table.as(), FloatType::bf16, hidden, 2, tokens.as<int32_t>(), 3, x.as<float>()},
                     stream);
  const auto got = to_host<float>(x.as(), 2 * hidden, stream);
  for (int64_t i = 0; i < hidden; ++i) {
    REQUIRE(got[size_t(i)] == 3 * table[size_t(49 * hidden + i)]);
    REQUIRE(got[size_t(hidden + i)] == 3 * table[size_t(i)]);
  }
}

TEST_CASE("lengths of sequences and their exact pages", "[matvec]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  for (const ExactWindow window :
       {ExactWindow{0, 0}, ExactWindow{64, 0}, ExactWindow{0, 100}, ExactWindow{128, 64}}) {
    CAPTURE(window.sink, window.recent);
    const std::vector<int32_t> positions = {0, 63, 64, 127, 200, 1000};
    const int batch = int(positions.size()), sinks = int(window.sink / 64),
              ring = window.recent > 0 ? int(window.recent + 63) / 64 + 1 : 0;
    const int64_t stride = sinks + ring + 1;
    std::vector<int32_t> own(size_t(batch * stride));  // pages as they come from a pool
    for (size_t i = 0; i < own.size(); ++i) own[i] = int32_t(3 * (own.size() - i));
    const cuda::Buffer on_own = to_device(own, stream);
    const cuda::Buffer on_positions = to_device(positions, stream), packed = poisoned(batch * 4, stream),
                       exact = poisoned(batch * 4, stream), starts = poisoned(batch * 4, stream),
                       table = poisoned(batch * stride * 4, stream);
    cuda::kv_lengths(
        {on_positions.as<int32_t>(), batch, window, ring, on_own.as<int32_t>(), packed.as<int32_t>(),
         exact.as<int32_t>(), starts.as<int32_t>(), table.as<int32_t>(), stride},
        stream);
    const auto ends = to_host<int32_t>(packed.as(), batch, stream),
               lengths = to_host<int32_t>(exact.as(), batch, stream),
               begins = to_host<int32_t>(starts.as(), batch, stream),
               pages = to_host<int32_t>(table.as(), batch * stride, stream);
    for (int b = 0; b < batch; ++b) {
      const int64_t length = positions[size_t(b)] + 1;
      CHECK(ends[size_t(b)] == packed_end(window, length));
      CHECK(lengths[size_t(b)] == exact_length(window, length));
      // The place of the newest token, and the page that a position keeps for as long as it is exact.
      const int64_t t = length - 1;
      const bool held = t < window.sink || window.recent > 0;
      CHECK(begins[size_t(b)] == (held ? lengths[size_t(b)] - 1 : (stride - 1) * 64));
      CHECK(pages[size_t((b + 1) * stride - 1)] == own[size_t((b + 1) * stride - 1)]);
      if (!held) continue;
      const int32_t page = pages[size_t(b * stride + begins[size_t(b)] / 64)];
      const int64_t slot = t < window.sink ? t / 64 : sinks + (t / 64 - sinks) % ring;
      CHECK(page == own[size_t(b * stride + slot)]);
      CHECK(begins[size_t(b)] % 64 == t % 64);
    }
  }
}
