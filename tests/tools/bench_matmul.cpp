// How fast linear() is: bf16 weights converted on the way, against Eigen's own multi-threaded product with
// float32 weights that lie ready. One line per shape: GFLOP/s of both, and the ratio.
//
//   bench_matmul [--threads N]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <vector>

// Eigen under a name of its own: the library's Eigen is compiled without threads, and the linker would merge
// the two.
#define Eigen EigenThreaded
#include <Eigen/Core>
#undef Eigen

#include "base/float16.h"
#include "base/parallel.h"
#include "model/matmul.h"
#include "model/split_product.h"

namespace {

using namespace blockgtq;
using RowMatrix =
    EigenThreaded::Matrix<float, EigenThreaded::Dynamic, EigenThreaded::Dynamic, EigenThreaded::RowMajor>;

struct Shape {
  int64_t n, rows, cols;
};

/// Seconds of the fastest of several runs over half a second or more.
template <class F>
double best_seconds(const F& run) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9, total = 0;
  run();
  for (int i = 0; i < 3 || total < 0.5; ++i) {
    const auto start = Clock::now();
    run();
    const double s = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, s);
    total += s;
  }
  return best;
}

void bench(const Shape& s) {
  std::vector<uint16_t> bits(size_t(s.rows * s.cols));
  RowMatrix weights(s.rows, s.cols), x(s.n, s.cols), y(s.n, s.rows), y2(s.n, s.rows);
  uint64_t state = 1;
  const auto uniform = [&state] {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return float(int64_t(state) >> 40) * 0x1p-23f;
  };
  for (size_t i = 0; i < bits.size(); ++i) {
    bits[i] = to_bf16(uniform());
    weights.data()[i] = from_bf16(bits[i]);
  }
  for (int64_t i = 0; i < x.size(); ++i) x.data()[i] = uniform();

  Linear w;
  w.weight.name = "w";
  w.weight.dtype = DType::bf16;
  w.weight.shape = {s.rows, s.cols};
  w.weight.data = std::as_bytes(std::span(bits));
  const auto product = [&] { linear(w, x.data(), s.n, y.data()); };
  const double ours = best_seconds(product);
  const double eigen = best_seconds([&] { y2.noalias() = x * weights.transpose(); });
  const double flop = 2.0 * double(s.n) * double(s.rows) * double(s.cols);
  fmt::print("n {:5} weights {:6} x {:6}: {:7.1f} GFLOP/s, Eigen {:7.1f}, ratio {:.2f}, difference {:.1e}\n",
             s.n, s.rows, s.cols, flop / ours / 1e9, flop / eigen / 1e9, eigen / ours,
             (y - y2).norm() / y2.norm());
  if (!has_split_products()) return;
  use_split_products(true);
  const double split = best_seconds(product);
  use_split_products(false);
  fmt::print("{:34} bf16x3: {:7.1f} GFLOP/s, {:.2f} times, difference {:.1e}\n", "", flop / split / 1e9,
             ours / split, (y - y2).norm() / y2.norm());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--threads") == 0) set_threads(std::atoi(argv[2]));
  EigenThreaded::setNbThreads(threads());
  fmt::print("{} threads\n", threads());
  for (int64_t n : {256, 2048})
    for (const auto& [rows, cols] :
         {std::pair<int64_t, int64_t>{2048, 2048}, {11008, 2048}, {2048, 11008}, {256, 2048}})
      bench({n, rows, cols});
}
