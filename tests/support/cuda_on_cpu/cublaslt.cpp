// cuBLASLt of the host implementation.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "engine/core/dtype.h"
#include "tests/support/cuda_on_cpu/cublaslt_api.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType_t scale = CUDA_R_32F;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;  // -1: as D
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type = CUDA_R_32F;
  int64_t rows = 0, cols = 0, stride = 0;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace = 0;
  uint32_t reductions = 7;
  std::array<uint32_t, 4> alignment{256, 256, 256, 256};  // of A, B, C, D
};

namespace ink::cuda_on_cpu {
namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;
using Description = cublasLtMatmulDescOpaque_t;

// Each sums the depth in its own order; kHalves leaves two partial results in the workspace.
enum class Algorithm : uint64_t { kForwards = 11, kHalves = 12, kBackwards = 13 };
constexpr uint64_t kMark = 0x696e6b2d63706531;  // an algorithm of this library

int64_t size_of_type(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

float load(cudaDataType_t type, const void* data, int64_t i) {
  switch (type) {
    case CUDA_R_16BF:
      return static_cast<float>(static_cast<const bf16*>(data)[i]);
    case CUDA_R_16F:
      return static_cast<float>(static_cast<const f16*>(data)[i]);
    default:
      return static_cast<const float*>(data)[i];
  }
}
void store(cudaDataType_t type, void* data, int64_t i, float value) {
  switch (type) {
    case CUDA_R_16BF:
      static_cast<bf16*>(data)[i] = bf16(value);
      break;
    case CUDA_R_16F:
      static_cast<f16*>(data)[i] = f16(value);
      break;
    default:
      static_cast<float*>(data)[i] = value;
  }
}

struct Problem {
  Description how;
  Layout a, b, d;
  float alpha = 1, beta = 0;
  const void *A = nullptr, *B = nullptr, *C = nullptr;
  void* D = nullptr;
  Algorithm algorithm = Algorithm::kForwards;
  float* workspace = nullptr;

  [[nodiscard]] int64_t depth() const { return how.transpose_a == CUBLAS_OP_N ? a.cols : a.rows; }
};

// The matrix as depth x outer in floats, whatever its layout, so that the product is a sum of outer
// products.
std::vector<float> by_depth(const Layout& layout, const void* data, bool depth_is_rows) {
  const int64_t depth = depth_is_rows ? layout.rows : layout.cols;
  const int64_t outer = depth_is_rows ? layout.cols : layout.rows;
  std::vector<float> values(static_cast<size_t>(depth * outer));
  for (int64_t p = 0; p < depth; ++p) {
    for (int64_t i = 0; i < outer; ++i) {
      const int64_t at = depth_is_rows ? p + i * layout.stride : i + p * layout.stride;
      values[static_cast<size_t>(p * outer + i)] = load(layout.type, data, at);
    }
  }
  return values;
}

// sums[j * rows + i] += over p in [begin, end) of a[p][i] * b[p][j].
void add_products(const std::vector<float>& a, const std::vector<float>& b, int64_t rows,
                  int64_t cols, int64_t begin, int64_t end, bool backwards, float* sums) {
  for (int64_t j = 0; j < cols; ++j) {
    float* column = sums + j * rows;
    for (int64_t step = begin; step < end; ++step) {
      const int64_t p = backwards ? end - 1 - (step - begin) : step;
      const float factor = b[static_cast<size_t>(p * cols + j)];
      const float* row = a.data() + p * rows;
      for (int64_t i = 0; i < rows; ++i) column[i] += row[i] * factor;
    }
  }
}

void multiply(const Problem& problem) {
  const int64_t rows = problem.d.rows, cols = problem.d.cols, depth = problem.depth();
  const auto a = by_depth(problem.a, problem.A, problem.how.transpose_a == CUBLAS_OP_T);
  const auto b = by_depth(problem.b, problem.B, problem.how.transpose_b == CUBLAS_OP_N);
  std::vector<float> sums(static_cast<size_t>(rows * cols));
  const bool backwards = problem.algorithm == Algorithm::kBackwards;
  if (problem.algorithm == Algorithm::kHalves) {
    float* half = problem.workspace;
    std::fill_n(half, sums.size(), 0.0F);
    add_products(a, b, rows, cols, 0, depth / 2, false, half);
    add_products(a, b, rows, cols, depth / 2, depth, false, sums.data());
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += half[i];
  } else {
    add_products(a, b, rows, cols, 0, depth, backwards, sums.data());
  }
  const bool with_bias = problem.how.epilogue == CUBLASLT_EPILOGUE_BIAS;
  for (int64_t j = 0; j < cols; ++j) {
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = i + j * problem.d.stride;
      float value = problem.alpha * sums[static_cast<size_t>(j * rows + i)];
      if (problem.beta != 0) value += problem.beta * load(problem.d.type, problem.C, at);
      if (with_bias) value += load(problem.d.type, problem.how.bias, i);
      store(problem.d.type, problem.D, at, value);
    }
  }
}

bool valid(const Layout& layout) {
  return layout.rows > 0 && layout.cols > 0 && layout.stride >= layout.rows;
}

// The table of types in the documentation of cublasLtMatmul, for sums in f32.
bool known_types(const Description& how, const Layout& a, const Layout& b, const Layout& d) {
  if (a.type != b.type || how.scale != CUDA_R_32F) return false;
  if (a.type == CUDA_R_64F || d.type == CUDA_R_64F) return false;
  // The documentation does not promise epilogues for it.
  if (how.compute == CUBLAS_COMPUTE_32F_PEDANTIC && how.epilogue != CUBLASLT_EPILOGUE_DEFAULT)
    return false;
  if (d.type != a.type && d.type != CUDA_R_32F) return false;
  if (how.bias_type >= 0 && how.bias_type != d.type) return false;
  int device = 0;
  cudaDeviceProp properties{};
  (void)cudaGetDevice(&device);
  (void)cudaGetDeviceProperties(&properties, device);
  return a.type != CUDA_R_16BF || properties.major >= 8;
}

cublasStatus_t check(const Description& how, const Layout& a, const Layout& b, const Layout& c,
                     const Layout& d) {
  if (!valid(a) || !valid(b) || !valid(c) || !valid(d)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool na = how.transpose_a == CUBLAS_OP_N, nb = how.transpose_b == CUBLAS_OP_N;
  const bool fits = (na ? a.rows : a.cols) == d.rows && (nb ? b.cols : b.rows) == d.cols &&
                    (na ? a.cols : a.rows) == (nb ? b.rows : b.cols) && c.rows == d.rows &&
                    c.cols == d.cols;
  if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
  return known_types(how, a, b, d) && c.type == d.type ? CUBLAS_STATUS_SUCCESS
                                                       : CUBLAS_STATUS_NOT_SUPPORTED;
}

std::size_t workspace_of(Algorithm algorithm, const Layout& d) {
  return algorithm == Algorithm::kHalves ? static_cast<std::size_t>(d.rows * d.cols) * sizeof(float)
                                         : 0;
}

bool known(const cublasLtMatmulAlgo_t& algorithm) {
  return algorithm.data[0] == kMark && algorithm.data[1] >= 11 && algorithm.data[1] <= 13;
}

// Kernels read it 16 bytes at a time, and no preference tells them of another alignment: a card
// faults.
bool bias_is_misplaced(const Description& how) {
  return how.epilogue == CUBLASLT_EPILOGUE_BIAS &&
         (how.bias == nullptr || reinterpret_cast<uintptr_t>(how.bias) % 16 != 0);
}

bool aligned(const void* pointer, cudaDataType_t type) {
  return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(size_of_type(type)) == 0;
}

// Handles are the caller's from create to destroy.
template <class Opaque>
cublasStatus_t create(Opaque** handle, const Opaque& value) {
  *handle = new Opaque(value);
  return CUBLAS_STATUS_SUCCESS;
}
template <class Opaque>
cublasStatus_t destroy(Opaque* handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t take(T& member, const void* value, std::size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&member, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace ink::cuda_on_cpu

using ink::cuda_on_cpu::Algorithm;
using ink::cuda_on_cpu::create;
using ink::cuda_on_cpu::destroy;
using ink::cuda_on_cpu::take;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return create(handle, {}); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }
std::size_t cublasLtGetVersion() { return 130000; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType_t scale) {
  return create(description, {.compute = compute, .scale = scale});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  return destroy(description);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(description->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(description->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(description->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(description->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return take(description->bias_type, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t stride) {
  return create(layout, {type, static_cast<int64_t>(rows), static_cast<int64_t>(cols), stride});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return destroy(layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return create(preference, {});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy(preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(preference->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(preference->alignment[static_cast<size_t>(attribute) -
                                        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
                  value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  *returned = 0;
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  const cublasStatus_t checked = ink::cuda_on_cpu::check(*description, *a, *b, *c, *d);
  if (checked != CUBLAS_STATUS_SUCCESS) return checked;
  const std::array<cudaDataType_t, 4> types{a->type, b->type, c->type, d->type};
  for (size_t i = 0; i < types.size(); ++i) {
    if (preference->alignment[i] < ink::cuda_on_cpu::size_of_type(types[i]))
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  for (const Algorithm algorithm :
       {Algorithm::kForwards, Algorithm::kHalves, Algorithm::kBackwards}) {
    const std::size_t workspace = ink::cuda_on_cpu::workspace_of(algorithm, *d);
    const bool split = algorithm == Algorithm::kHalves;
    if (*returned == requested || workspace > preference->workspace) continue;
    if (split && (preference->reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) == 0) continue;
    results[(*returned)++] = {.algo = {{ink::cuda_on_cpu::kMark, static_cast<uint64_t>(algorithm)}},
                              .workspaceSize = workspace,
                              .state = CUBLAS_STATUS_SUCCESS,
                              .wavesCount = 1.0F,
                              .reserved = {}};
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!ink::cuda_on_cpu::known(*algorithm)) return CUBLAS_STATUS_NOT_SUPPORTED;
  result->state = ink::cuda_on_cpu::check(*description, *a, *b, *c, *d);
  result->workspaceSize =
      ink::cuda_on_cpu::workspace_of(static_cast<Algorithm>(algorithm->data[1]), *d);
  return result->state;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                              const void* alpha, const void* A, cublasLtMatrixLayout_t a,
                              const void* B, cublasLtMatrixLayout_t b, const void* beta,
                              const void* C, cublasLtMatrixLayout_t c, void* D,
                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algorithm,
                              void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  cublasLtMatmulHeuristicResult_t wanted{};
  const cublasStatus_t checked =
      cublasLtMatmulAlgoCheck(handle, description, a, b, c, d, algorithm, &wanted);
  if (checked != CUBLAS_STATUS_SUCCESS) return checked;
  const ink::cuda_on_cpu::Problem problem{.how = *description,
                                          .a = *a,
                                          .b = *b,
                                          .d = *d,
                                          .alpha = *static_cast<const float*>(alpha),
                                          .beta = *static_cast<const float*>(beta),
                                          .A = A,
                                          .B = B,
                                          .C = C,
                                          .D = D,
                                          .algorithm = static_cast<Algorithm>(algorithm->data[1]),
                                          .workspace = static_cast<float*>(workspace)};
  const bool misplaced =
      !ink::cuda_on_cpu::aligned(A, a->type) || !ink::cuda_on_cpu::aligned(B, b->type) ||
      !ink::cuda_on_cpu::aligned(D, d->type) || ink::cuda_on_cpu::bias_is_misplaced(*description);
  const bool in_place = C == D && c->stride == d->stride;
  if (misplaced || !in_place || workspace_bytes < wanted.workspaceSize)
    return CUBLAS_STATUS_INVALID_VALUE;
  return ink::cuda_on_cpu::enqueue(stream, [problem] { ink::cuda_on_cpu::multiply(problem); }) ==
                 cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}
