// y (n, rows) = x (n, cols) w (rows, cols)^T through cuBLASLt.
//
// cuBLASLt counts columns first, so row-major matrices are their transposes to it:
//   w   (cols, rows), leading dimension cols, transposed      x   (cols, n), leading dimension cols
//   y   (rows, n), leading dimension y_stride
// Bytes moved: size of type * (rows cols + n cols) + 4 n rows (twice with add). Operations: 2 n rows cols.
#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "blas.h"
#include "check.cuh"

namespace blockgtq::cuda {
namespace {

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(Exit::device, fmt::format("cuBLASLt: {}: {}", what, cublasLtGetStatusString(status)));
}

cudaDataType_t data_type(FloatType type) {
  return type == FloatType::f32 ? CUDA_R_32F : type == FloatType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

/// What an algorithm may count on; finer than 16 bytes helps none.
uint32_t alignment(const void* p) {
  constexpr uintptr_t kEnough = 16;
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  return uint32_t(std::min(kEnough, address & (~address + 1)));
}

/// The descriptors of one product, in cuBLASLt's terms.
struct Description {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t w, x, y;

  explicit Description(const Product& p) {
    check_blas(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check_blas(cublasLtMatmulDescSetAttribute(&operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                              sizeof transposed),
               "operation");
    const cudaDataType_t type = data_type(p.type);
    check_blas(cublasLtMatrixLayoutInit(&w, type, uint64_t(p.cols), uint64_t(p.rows), p.cols), "layout");
    check_blas(cublasLtMatrixLayoutInit(&x, type, uint64_t(p.cols), uint64_t(p.n), p.cols), "layout");
    check_blas(cublasLtMatrixLayoutInit(&y, CUDA_R_32F, uint64_t(p.rows), uint64_t(p.n), p.y_stride),
               "layout");
  }
};

template <class T>
void set(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         T value) {
  check_blas(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
             "preference");
}

}  // namespace

struct Blas::State {
  // rows, cols, n, y_stride, type, add, alignments of w, x and y
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, FloatType, bool, uint32_t, uint32_t, uint32_t>;

  cublasLtHandle_t handle = nullptr;
  Buffer workspace{size_t(kWorkspaceBytes)};
  std::map<Key, cublasLtMatmulAlgo_t> algorithms;

  State() { check_blas(cublasLtCreate(&handle), "handle"); }
  State(const State&) = delete;
  ~State() { cublasLtDestroy(handle); }

  const cublasLtMatmulAlgo_t& algorithm(const Product& p, Description& d) {
    const Key key{p.rows,         p.cols,         p.n,           p.y_stride, p.type, p.add,
                  alignment(p.w), alignment(p.x), alignment(p.y)};
    const auto known = algorithms.find(key);
    if (known != algorithms.end()) return known->second;
    cublasLtMatmulPreferenceOpaque_t preference;
    check_blas(cublasLtMatmulPreferenceInit(&preference), "preference");
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kWorkspaceBytes));
    // Split sums only through the workspace and a second pass, whose order is fixed.
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.w));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.x));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.y));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.y));
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    check_blas(cublasLtMatmulAlgoGetHeuristic(handle, &d.operation, &d.w, &d.x, &d.y, &d.y, &preference, 1,
                                              &result, &found),
               fmt::format("no algorithm for a product of ({}, {}) and ({}, {})", p.n, p.cols, p.cols, p.rows)
                   .c_str());
    check(found == 1, "cuBLASLt: success without an algorithm");
    return algorithms.emplace(key, result.algo).first->second;
  }
};

Blas::Blas() : state_(std::make_unique<State>()) {}
Blas::~Blas() = default;

void Blas::multiply(const Product& p, const Stream& stream) {
  check(p.rows > 0 && p.cols > 0 && p.n >= 0 && p.y_stride >= p.rows && p.w && p.x && p.y,
        "multiply: arguments");
  if (p.n == 0) return;
  Description d(p);
  const cublasLtMatmulAlgo_t& algorithm = state_->algorithm(p, d);
  const float beta = p.add ? 1 : 0;
  check_blas(cublasLtMatmul(state_->handle, &d.operation, &p.scale, p.w, &d.w, p.x, &d.x, &beta, p.y, &d.y, p.y,
                            &d.y, &algorithm, state_->workspace.as(), size_t(kWorkspaceBytes), raw(stream)),
             "product");
}

}  // namespace blockgtq::cuda
