#include "base/error.h"
#include "bench_decode.h"

namespace blockgtq {

struct DecodeBench::State {};

DecodeBench::DecodeBench(const Checkpoint&, const CudaOptions&) {
  throw Error(Exit::device, "this build has no CUDA backend");
}
DecodeBench::DecodeBench(const Config&) {
  throw Error(Exit::device, "this build has no CUDA backend");
}
DecodeBench::~DecodeBench() = default;

DecodeTime DecodeBench::time(const CacheBench&, int, int64_t, bool) const {
  check(false, "bench decode without CUDA");
  return {};
}
const Config& DecodeBench::config() const {
  throw Error(Exit::device, "this build has no CUDA backend");
}

}  // namespace blockgtq
