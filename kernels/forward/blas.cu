// y (n, rows) = x (n, cols) w (rows, cols)^T through cuBLASLt.
//
// To cuBLASLt, which is column-major, row-major matrices are their transposes:
//
//   w   (cols, rows), leading dimension cols, transposed
//   x   (cols, n), leading dimension cols
//   y   (rows, n), leading dimension y_stride
//
// Bytes moved: size of type * (rows cols + n cols) + 4 n rows, the last of which counts twice with `add`.
// Operations: 2 n rows cols.
//
// The library has 541 MB. It is opened when the first product is wanted, so that no command without a GPU
// pays for it, and a machine that lacks it runs everything else.
#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "kernels/device/check.cuh"
#include "kernels/forward/blas.h"

namespace blockgtq::cuda {
namespace {

#define BLOCKGTQ_TEXT(x) #x
#define BLOCKGTQ_TEXT_OF(x) BLOCKGTQ_TEXT(x)
constexpr char kLibrary[] = "libcublasLt.so." BLOCKGTQ_TEXT_OF(CUBLAS_VER_MAJOR);

/// cuBLASLt's functions by the names of its header. Those with `_internal` are what inline functions of
/// the header call.
struct Library {
  decltype(&cublasLtGetVersion) version;
  decltype(&cublasLtGetStatusString) status_text;
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmul) multiply;
  decltype(&cublasLtMatmulDescInit_internal) init_operation;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation;
  decltype(&cublasLtMatrixLayoutInit_internal) init_layout;
  decltype(&cublasLtMatmulPreferenceInit_internal) init_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference;
  decltype(&cublasLtMatmulAlgoGetHeuristic) find_algorithms;

  /// Exit::device when the library or a function of it is missing.
  Library() {
    void* library = dlopen(kLibrary, RTLD_LAZY | RTLD_LOCAL);
    if (!library) missing();
    find(library, "cublasLtGetVersion", version);
    find(library, "cublasLtGetStatusString", status_text);
    find(library, "cublasLtCreate", create);
    find(library, "cublasLtDestroy", destroy);
    find(library, "cublasLtMatmul", multiply);
    find(library, "cublasLtMatmulDescInit_internal", init_operation);
    find(library, "cublasLtMatmulDescSetAttribute", set_operation);
    find(library, "cublasLtMatrixLayoutInit_internal", init_layout);
    find(library, "cublasLtMatmulPreferenceInit_internal", init_preference);
    find(library, "cublasLtMatmulPreferenceSetAttribute", set_preference);
    find(library, "cublasLtMatmulAlgoGetHeuristic", find_algorithms);
  }

 private:
  template <class Function>
  static void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (!function) missing();
  }
  [[noreturn]] static void missing() {  // dlerror names the library and what it lacks
    throw Error(
        Exit::device, fmt::format("matrix products: {}", dlerror()),
        fmt::format(
            "the runtime libraries of CUDA {} hold it, LD_LIBRARY_PATH names their folder; or --device cpu",
            CUBLAS_VER_MAJOR));
  }
};

/// Opened by the first call that succeeds, and kept for the rest of the process.
const Library& library() {
  static const Library opened;
  return opened;
}

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(Exit::device, fmt::format("cuBLASLt: {}: {}", what, library().status_text(status)));
}

cudaDataType_t data_type(FloatType type) {
  return type == FloatType::f32 ? CUDA_R_32F : type == FloatType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

/// The alignment of p that an algorithm may count on. More than 16 bytes helps none.
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
    const Library& lt = library();
    check_blas(lt.init_operation(&operation, sizeof operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
    // Our rows are columns to cuBLASLt.
    const cublasOperation_t turned = p.transposed ? CUBLAS_OP_N : CUBLAS_OP_T;
    check_blas(lt.set_operation(&operation, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned),
               "operation");
    const cudaDataType_t type = data_type(p.type);
    const int64_t inner = p.transposed ? p.rows : p.cols, outer = p.transposed ? p.cols : p.rows;
    check_blas(lt.init_layout(&w, sizeof w, type, uint64_t(inner), uint64_t(outer), inner), "layout");
    check_blas(lt.init_layout(&x, sizeof x, type, uint64_t(p.cols), uint64_t(p.n), p.cols), "layout");
    check_blas(lt.init_layout(&y, sizeof y, CUDA_R_32F, uint64_t(p.rows), uint64_t(p.n), p.y_stride),
               "layout");
  }
};

template <class T>
void set(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         T value) {
  check_blas(library().set_preference(&preference, attribute, &value, sizeof value), "preference");
}

}  // namespace

struct Blas::State {
  // rows, cols, n, y_stride, type, add, transposed, alignments of w, x and y
  using Key =
      std::tuple<int64_t, int64_t, int64_t, int64_t, FloatType, bool, bool, uint32_t, uint32_t, uint32_t>;

  cublasLtHandle_t handle = nullptr;
  Buffer workspace{size_t(kWorkspaceBytes)};
  std::map<Key, cublasLtMatmulAlgo_t> algorithms;

  State() { check_blas(library().create(&handle), "handle"); }
  State(const State&) = delete;
  ~State() { library().destroy(handle); }

  const cublasLtMatmulAlgo_t& algorithm(const Product& p, Description& d) {
    const Key key{p.rows,         p.cols,         p.n,           p.y_stride, p.type, p.add, p.transposed,
                  alignment(p.w), alignment(p.x), alignment(p.y)};
    const auto known = algorithms.find(key);
    if (known != algorithms.end()) return known->second;
    cublasLtMatmulPreferenceOpaque_t preference;
    check_blas(library().init_preference(&preference, sizeof preference), "preference");
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kWorkspaceBytes));
    // Partial sums go through the workspace and a second pass only, whose order is fixed.
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.w));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.x));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.y));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.y));
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    check_blas(library().find_algorithms(handle, &d.operation, &d.w, &d.x, &d.y, &d.y, &preference, 1,
                                         &result, &found),
               fmt::format("no algorithm for a product of ({}, {}) and ({}, {})", p.n, p.cols, p.cols, p.rows)
                   .c_str());
    check(found == 1, "cuBLASLt: success without an algorithm");
    return algorithms.emplace(key, result.algo).first->second;
  }
};

std::string describe_blas() {
  try {
    const size_t version = library().version();
    return fmt::format("cuBLASLt {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
  } catch (const Error& e) {
    return e.what();
  }
}

Blas::Blas() : state_(std::make_unique<State>()) {}
Blas::~Blas() = default;

void Blas::multiply(const Product& p, const Stream& stream) {
  check(p.rows > 0 && p.cols > 0 && p.n >= 0 && p.y_stride >= p.rows && p.w && p.x && p.y,
        "multiply: arguments");
  if (p.n == 0) return;
  Description d(p);
  const cublasLtMatmulAlgo_t& algorithm = state_->algorithm(p, d);
  const float beta = p.add ? 1 : 0;
  check_blas(
      library().multiply(state_->handle, &d.operation, &p.scale, p.w, &d.w, p.x, &d.x, &beta, p.y, &d.y, p.y,
                         &d.y, &algorithm, state_->workspace.as(), size_t(kWorkspaceBytes), raw(stream)),
      "product");
}

}  // namespace blockgtq::cuda
