#include "base/error.h"
#include "eval/cuda_divergence.h"
#include "eval/cuda_evaluate.h"
#include "eval/cuda_requantize.h"
#include "eval/cuda_stats.h"
#include "eval/pack.h"

namespace blockgtq {
namespace {

[[noreturn]] void fail_absent() {
  throw Error(Exit::device, "this build has no CUDA backend", "--device cpu");
}

}  // namespace

struct CudaStats::State {};
CudaStats::CudaStats(Stats&, int64_t, std::function<void(int)>) {
  fail_absent();
}
CudaStats::~CudaStats() = default;
void CudaStats::add_layer(int, const float*, const float*, const float*, void*) {
  fail_absent();
}
void CudaStats::finish() {
  fail_absent();
}

struct CudaEvaluator::State {};
CudaEvaluator::CudaEvaluator(const EvalSpec&) {
  fail_absent();
}
CudaEvaluator::~CudaEvaluator() = default;
void CudaEvaluator::add_layer(int, const float*, const float*, int64_t, void*) {
  fail_absent();
}
std::vector<LayerResult> CudaEvaluator::finish() {
  fail_absent();
}

std::vector<PackedHead> cuda_pack_layer(const HeadQuantizers&, const float*, int64_t) {
  fail_absent();
}

struct CudaRequantizer::State {};
CudaRequantizer::CudaRequantizer() {
  fail_absent();
}
CudaRequantizer::~CudaRequantizer() = default;
int64_t CudaRequantizer::requantize(const CachedLayer&, void*) {
  fail_absent();
}

struct CudaExactLogits::State {};
CudaExactLogits::CudaExactLogits(int64_t, int64_t) {
  fail_absent();
}
CudaExactLogits::~CudaExactLogits() = default;
void CudaExactLogits::set(int64_t, int64_t, const float*, void*) {
  fail_absent();
}
void CudaExactLogits::compare(int64_t, int64_t, const float*, const int32_t*, TokenScore*, void*) {
  fail_absent();
}

}  // namespace blockgtq
