// Builds without CUDA.
#include "base/error.h"
#include "capi/page_device.h"

namespace blockgtq::capi {
namespace {

[[noreturn]] void fail_absent() {
  throw Error(Exit::device, "this library was built without CUDA");
}

}  // namespace

const char* const kCudaText = "without CUDA";

std::unique_ptr<PageDevice> make_cuda_device(const Opened&) {
  fail_absent();
}

int current_cuda_device() {
  fail_absent();
}

}  // namespace blockgtq::capi
