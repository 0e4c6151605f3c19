#include "base/error.h"
#include "model/cuda_backend.h"
#include "model/cuda_output_moment.h"

namespace blockgtq {
namespace {

[[noreturn]] void fail_absent() {
  throw Error(Exit::device, "this build has no CUDA backend", "--device cpu");
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions&) {
  fail_absent();
}

struct CudaOutputMoment::State {};
CudaOutputMoment::CudaOutputMoment(int64_t, const AttentionShape&) {
  fail_absent();
}
CudaOutputMoment::~CudaOutputMoment() = default;
std::vector<double> CudaOutputMoment::moment(const Linear&) {
  fail_absent();
}
int64_t CudaOutputMoment::bytes(int64_t, const AttentionShape&) {
  fail_absent();
}
bool CudaOutputMoment::supported(const AttentionShape&) {
  return false;
}

}  // namespace blockgtq
