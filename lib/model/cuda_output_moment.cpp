#include "model/cuda_output_moment.h"

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/diagnose/stats.h"
#include "kernels/forward/heads.h"

namespace blockgtq {
namespace {

/// The rows of W_o in the form of tokens, whose values are the columns of one query head of every KV head:
/// (rows, group) tokens of (H, Dv).
cuda::StatsInput input_of(int64_t rows, const AttentionShape& shape) {
  cuda::StatsInput input;
  input.layout = {shape.v_dim, shape.v_dim, Pairing::half};
  input.n_heads = input.n_kv_heads = shape.n_kv_heads;
  input.v_dim = shape.v_dim;
  input.n_tokens = input.chunk = rows * shape.group();
  return input;
}

}  // namespace

struct CudaOutputMoment::State {
  State(int64_t r, const AttentionShape& s)
      : rows(r), shape(s), input(input_of(r, s)), host(size_t(r * width())) {}
  int64_t width() const { return int64_t(shape.n_heads) * shape.v_dim; }

  int64_t rows;
  AttentionShape shape;
  cuda::StatsInput input;
  int device = cuda::current_device();
  cuda::Stream stream;
  std::vector<float> host;                            // (rows, width)
  cuda::Buffer weights{host.size() * sizeof(float)};  // the same on the device
  cuda::Buffer values{host.size() * sizeof(float)};   // (rows, group, H, Dv)
  cuda::Buffer sums{size_t(input.chunk_size()) * sizeof(double)}, bad{3 * sizeof(int32_t)};
};

CudaOutputMoment::CudaOutputMoment(int64_t rows, const AttentionShape& shape)
    : state_(std::make_unique<State>(rows, shape)) {}
CudaOutputMoment::~CudaOutputMoment() = default;

int64_t CudaOutputMoment::bytes(int64_t rows, const AttentionShape& shape) {
  return 2 * rows * shape.n_heads * shape.v_dim * int64_t(sizeof(float)) +
         input_of(rows, shape).chunk_size() * int64_t(sizeof(double));
}

bool CudaOutputMoment::supported(const AttentionShape& shape) {
  return shape.v_dim > 0 && shape.v_dim % 2 == 0 && shape.v_dim <= cuda::kMaxStatsDim;
}

std::vector<double> CudaOutputMoment::moment(const Linear& o) {
  State& s = *state_;
  const int64_t width = s.width(), dim = s.shape.v_dim, group = s.shape.group(), heads = s.shape.n_kv_heads;
  check(o.rows() == s.rows && o.cols() == width, "CudaOutputMoment: W_o of another shape");
  cuda::set_device(s.device);
  parallel_for(size_t(s.rows),
               [&](size_t row) { o.weight.read(int64_t(row) * width, width, &s.host[row * size_t(width)]); });
  cuda::upload(s.weights.as(), s.host.data(), s.weights.bytes(), s.stream);
  for (int64_t g = 0; g < group; ++g)
    cuda::copy_heads({s.weights.as<float>() + g * dim, width, group * dim},
                     {s.values.as<float>() + g * heads * dim, width, dim}, s.rows, heads, dim, s.stream);
  s.input.q = s.input.k = s.input.v = s.values.as<float>();
  cuda::block_stats(s.input, s.sums.as<double>(), s.bad.as<int32_t>(), s.stream);
  std::vector<double> moment(static_cast<size_t>(s.input.vv_size()));
  cuda::download_now(moment.data(), s.sums.as<double>() + s.input.chunk_size() - s.input.vv_size(),
                     moment.size() * sizeof(double), s.stream.handle());
  return moment;
}

}  // namespace blockgtq
