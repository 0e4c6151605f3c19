// What attention and feed-forward share: products with resident weights, norms, and checks for non-finite
// numbers.
// Also the embedding and the logits.
#include "model/cuda_decoder.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/forward/bias.h"
#include "kernels/forward/convert.h"
#include "kernels/forward/logits.h"
#include "kernels/forward/nonfinite.h"
#include "model/nonfinite.h"
#include "model/output_layer.h"
#include "model/rotary.h"

namespace blockgtq {

CudaDecoder::CudaDecoder(const Checkpoint& model, const RunShape& run, Past* past, const Workspace& workspace,
                         cuda::Blas& blas, cuda::Stream& stream)
    : model_(model), run_(run), past_(past), ws_(workspace), blas_(blas), stream_(stream) {
  const MoeConfig& moe = config().moe;
  words_ = cuda::PinnedBuffer(Workspace::kWords * sizeof(uint64_t));
  if (ws_.expert) routing_ = cuda::PinnedBuffer(size_t(run.slab() * moe.n_per_token) * 3 * sizeof(int32_t));
}

CudaDecoder::~CudaDecoder() {
  try {
    stream_.synchronize();
  } catch (const Error&) {
    // A failed run reports what failed.
  }
}

void CudaDecoder::begin(const Tensor& embedding, std::span<const int32_t> tokens) {
  constexpr int64_t kRows = 1024;
  const int64_t hidden = config().hidden, n = int64_t(tokens.size());
  std::vector<float> rows(size_t(std::min(kRows, n) * hidden));
  for (int64_t first = 0; first < n; first += kRows) {
    const int64_t count = std::min(kRows, n - first);
    embed(model_, embedding, tokens.subspan(size_t(first), size_t(count)), rows.data());
    cuda::upload(ws_.x + first * hidden, rows.data(), size_t(count * hidden) * sizeof(float), stream_);
    stream_.synchronize();
  }
  rope_ = upload_rope(false, ws_.cos, ws_.sin);
  if (config().local_rope) local_rope_ = upload_rope(true, ws_.local_cos, ws_.local_sin);
  cuda::fill_zero(ws_.words, Workspace::kWords * sizeof(uint64_t), stream_);
  stream_.synchronize();
}

void CudaDecoder::set_residual(const std::vector<float>& x) {
  cuda::upload(ws_.x, x.data(), x.size() * sizeof(float), stream_);
  stream_.synchronize();
}

std::vector<float> CudaDecoder::residual() {
  require_finite(pending_);
  pending_.clear();
  std::vector<float> x(size_t(run_.n_tokens * config().hidden));
  cuda::download(x.data(), ws_.x, x.size() * sizeof(float), stream_);
  stream_.synchronize();
  return x;
}

cuda::RopeTable CudaDecoder::upload_rope(bool local, float* cos, float* sin) {
  const RotaryTable table = rotary_table(config(), past_ ? past_->context : run_.chunk, local);
  const int64_t n = run_.chunk * table.layout.n_rotary(), first = run_.past * table.layout.n_rotary();
  cuda::upload(cos, table.cos.data() + first, size_t(n) * sizeof(float), stream_);
  cuda::upload(sin, table.sin.data() + first, size_t(n) * sizeof(float), stream_);
  stream_.synchronize();  // the copies read arrays of the host, which end here
  return {table.layout, run_.chunk, cos, sin};
}

void* CudaDecoder::low(void* x, int64_t first) const {
  return static_cast<std::byte*>(x) + first * cuda::bytes_of(run_.type);
}

const void* CudaDecoder::low(const void* x, int64_t first) const {
  return static_cast<const std::byte*>(x) + first * cuda::bytes_of(run_.type);
}

void CudaDecoder::enter(const Parcel& parcel, const std::byte* base) {
  parcel_ = &parcel;
  base_ = base;
}

const std::byte* CudaDecoder::resident(const Tensor& tensor) const {
  return base_ + parcel_->offset_of(tensor);
}

const float* CudaDecoder::floats(const Tensor& tensor) const {
  return reinterpret_cast<const float*>(resident(tensor));
}

/// y (n, rows) (+)= scale x w^T, with the first `rows` rows at the weight: its own, or also those of the
/// matrix that follows it. Weights of another type than the product's are converted a few rows at a time.
void CudaDecoder::multiply(const Tensor& weight, int64_t rows, cuda::FloatType type, const void* x, int64_t n,
                           float* y, int64_t y_stride, bool add, float scale) {
  const int64_t cols = weight.shape[1];
  cuda::Product product{resident(weight), x, y, rows, cols, n, y_stride, type, add, scale};
  if (is_stored_as(weight, type)) {
    blas_.multiply(product, stream_);
    return;
  }
  constexpr int64_t kRowMultiple = 64;  // keeps the pieces of y aligned
  int64_t most = run_.converted_bytes / (cols * cuda::bytes_of(type));
  if (most > kRowMultiple) most = most / kRowMultiple * kRowMultiple;
  check(most > 0, "room for converted weights");
  product.w = ws_.converted;
  for (int64_t first = 0; first < rows; first += most) {
    product.rows = std::min(most, rows - first);
    product.y = y + first;
    convert_rows(weight, first, product.rows, type);
    blas_.multiply(product, stream_);
  }
}

/// The same with a weight that is stored as (cols, rows). It is converted as a whole.
void CudaDecoder::multiply_transposed(const Linear& w, const void* x, int64_t n, float* y, bool add,
                                      float scale) {
  cuda::Product product{resident(w.weight), x,         y,   w.rows(), w.cols(), n,
                        w.rows(),           run_.type, add, scale,    true};
  if (!is_stored_as(w.weight, run_.type)) {
    check(run_.converted_bytes >= w.weight.elements() * cuda::bytes_of(run_.type),
          "room for a converted weight");
    convert_rows(w.weight, 0, w.weight.shape[0], run_.type);
    product.w = ws_.converted;
  }
  blas_.multiply(product, stream_);
}

/// ws_.converted = rows [first, first + n) of the matrix at the weight.
void CudaDecoder::convert_rows(const Tensor& weight, int64_t first, int64_t n, cuda::FloatType type) {
  const int64_t cols = weight.shape[1], elements = n * cols;
  if (lies_as_float(weight)) {
    cuda::convert(resident(weight) + first * cols * int64_t(sizeof(float)), cuda::FloatType::f32,
                  ws_.converted, type, elements, stream_);
    return;
  }
  const std::byte* from = resident(weight) + first * weight.row_bytes();
  if (is_quantized(weight.dtype)) {
    cuda::dequantize(block_type(weight.dtype), from, elements / block_size(weight.dtype).elements,
                     ws_.converted, type, stream_);
  } else {
    cuda::convert(from, float_type(weight.dtype), ws_.converted, type, elements, stream_);
  }
}

void CudaDecoder::add_bias(const Linear& w, float* y, int64_t y_stride, int64_t n, float scale) {
  if (w.bias) cuda::add_bias(y, y_stride, n, w.rows(), floats(*w.bias), scale, stream_);
}

/// y (n, rows) (+)= scale (x W^T + b), x of the products' type.
void CudaDecoder::linear(const Linear& w, const void* x, int64_t n, float* y, bool add, float scale) {
  if (w.transposed) {
    multiply_transposed(w, x, n, y, add, scale);
  } else {
    multiply(w.weight, w.rows(), run_.type, x, n, y, w.rows(), add, scale);
  }
  add_bias(w, y, w.rows(), n, scale);
}

/// RMSNorm of n consecutive rows x. The caller still sets the output.
cuda::Norm CudaDecoder::prepare_norm(const Tensor& weight, double eps, const float* x, int64_t n) const {
  cuda::Norm norm;
  norm.x = x;
  norm.n = n;
  norm.dim = norm.x_stride = norm.y_stride = weight.elements();
  norm.weight = floats(weight);
  norm.eps = float(eps);
  norm.low_type = run_.type;
  return norm;
}

/// The model's norm, to y (n, dim) in float32, which may be x, and to low (n, dim) in the products' type.
/// Either may be null.
void CudaDecoder::norm(const Norm& weights, const float* x, int64_t n, float* y, void* low) {
  cuda::Norm norm = model_norm(weights, x, n);
  norm.y = y;
  norm.low = low;
  cuda::norm(norm, stream_);
}

cuda::Norm CudaDecoder::model_norm(const Norm& weights, const float* x, int64_t n) const {
  cuda::Norm norm = prepare_norm(weights.weight, config().rms_eps, x, n);
  norm.offset = float(config().norm_offset);
  norm.centered = config().norm_form == NormForm::layer;
  if (weights.bias) norm.bias = floats(*weights.bias);
  return norm;
}

/// The input of a part of the layer: the norm of x (n, hidden), or x itself. It is written to `in` in the
/// products' type, and to y in float32 where y is not null. Returns in.
const void* CudaDecoder::input(const std::optional<Norm>& weights, const float* x, int64_t n, void* in,
                               float* y) {
  if (weights) {
    norm(*weights, x, n, y, in);
  } else {
    cuda::convert(x, cuda::FloatType::f32, in, run_.type, n * config().hidden, stream_);
  }
  return in;
}

/// x (n, hidden) += the product of W and `in`, or the norm of it, times the residual multiplier.
void CudaDecoder::add_output(const Linear& w, const std::optional<Norm>& weights, const void* in, int64_t n,
                             float* x) {
  const float residual = float(config().residual_multiplier);
  if (!weights) return linear(w, in, n, x, true, residual);
  const int64_t hidden = config().hidden;
  for (int64_t first = 0; first < n; first += run_.slab()) {
    const int64_t count = std::min(run_.slab(), n - first);
    linear(w, low(in, first * w.cols()), count, ws_.out);
    cuda::Norm norm = model_norm(*weights, ws_.out, count);
    norm.y = x + first * hidden;
    norm.add = true;
    norm.scale = residual;
    cuda::norm(norm, stream_);
  }
}

void CudaDecoder::watch(const Watched& w) {
  cuda::find_nonfinite(w.x, w.rows * w.cols, ws_.words + w.word, stream_);
}

void CudaDecoder::require_finite(const std::vector<Watched>& watched) {
  const uint64_t* words = words_.as<uint64_t>();
  cuda::download(words_.as(), ws_.words, Workspace::kWords * sizeof(uint64_t), stream_);
  stream_.synchronize();
  for (const Watched& w : watched) {
    const int64_t index = cuda::first_nonfinite(words[w.word]);
    if (index >= 0) report(w, index);
  }
}

/// Lets the CPU's check examine the row: it finds the weight that is to blame, and words the error.
void CudaDecoder::report(const Watched& w, int64_t index) {
  const int64_t row = index / w.cols;
  std::vector<float> values(static_cast<size_t>(w.cols));
  cuda::download(values.data(), w.x + row * w.cols, values.size() * sizeof(float), stream_);
  stream_.synchronize();
  try {
    blockgtq::require_finite(model_, values.data(), 1, w.cols, w.what, w.weights, w.first_token + row);
  } catch (const Error& e) {
    if (run_.type != cuda::FloatType::f16 || e.hint.empty()) throw;
    throw Error(e.code, e.what(),
                "the weights are finite: what is beyond 65504 overflows fp16; --dtype fp32");
  }
  throw std::logic_error("a non-finite number that is not there");
}

CudaDecoder::Watched CudaDecoder::output_of(const ResidentLayer& layer) const {
  return {kOutput,
          ws_.x,
          run_.n_tokens,
          config().hidden,
          fmt::format("layer {}: output", layer.index),
          layer.weights.all()};
}

const float* CudaDecoder::logits(const OuterWeights& outer, const Parcel& parcel, const std::byte* base,
                                 int64_t first, int64_t n) {
  const int64_t hidden = config().hidden, vocab = config().vocab;
  enter(parcel, base);
  norm(outer.final_norm, ws_.x + first * hidden, n, nullptr, ws_.in);
  linear(outer.lm_head, ws_.in, n, ws_.logits);
  const Watched watched{
      kOther, ws_.logits, n, vocab, "logits", {&outer.final_norm.weight, &outer.lm_head.weight}, first};
  watch(watched);
  pending_.push_back(watched);
  require_finite(pending_);
  pending_.clear();
  cuda::finish_logits(ws_.logits, n * vocab, float(config().logits_multiplier),
                      float(config().logits_softcap), stream_);
  return ws_.logits;
}

}  // namespace blockgtq
