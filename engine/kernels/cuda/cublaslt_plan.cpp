#include "engine/kernels/cuda/cublaslt_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <span>

#include "engine/tensor/cuda_error.h"
#include "engine/tensor/cuda_stream.h"

namespace ink {
namespace {

constexpr size_t kMaxPlans = 4096;  // a generating model meets a new shape with every prompt
constexpr int kCandidates = 12;
constexpr int kRounds = 3, kRepeats = 4;      // of timing: the best round of so many calls counts
constexpr int64_t kMaxTrialBytes = 64 << 20;  // beside a sum

const bool kRegistered = register_tuning(Device::kCuda, [](Runtime& runtime) -> KernelTuning& {
  return static_cast<CudaBackend&>(runtime.backend()).resource<CublasLt>().tuning();
});

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    default:
      throw InternalError(fmt::format("no CUDA matrix product takes {}", name_of(dtype)));
  }
}

// In the order of preference.
std::span<const cublasComputeType_t> computes_of(DType in) {
  static constexpr std::array kComputes{CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_COMPUTE_32F};
  return std::span(kComputes).subspan(in == DType::kF32 ? 0 : 1);
}

std::string machine_text(const CudaBackend& backend) {
  int driver = 0;
  check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  return fmt::format("{}, {} multiprocessors, driver {}, cuBLASLt {}", backend.properties().name,
                     backend.properties().multiProcessorCount, driver, cublasLtGetVersion());
}

void check_with_table(const CudaBackend& backend, cublasStatus_t status, const std::string& what) {
  if (status == CUBLAS_STATUS_ALLOC_FAILED) backend.out_of_memory(what);
  check_cublas(status, what);
}

CublasLtPtr<cublasLtContext> make_handle(const CudaBackend& backend) {
  cublasLtHandle_t handle = nullptr;
  check_with_table(backend, cublasLtCreate(&handle), "cublasLtCreate");
  return CublasLtPtr<cublasLtContext>(handle);
}

CublasLtPtr<cublasLtMatrixLayoutOpaque_t> make_layout(DType dtype, int64_t rows, int64_t cols,
                                                      int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublas(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), static_cast<uint64_t>(rows),
                                          static_cast<uint64_t>(cols), stride),
               "cublasLtMatrixLayoutCreate");
  return CublasLtPtr<cublasLtMatrixLayoutOpaque_t>(layout);
}

template <class T>
void set(const GemmPlan& plan, cublasLtMatmulDescAttributes_t attribute, T value) {
  check_cublas(
      cublasLtMatmulDescSetAttribute(plan.description.get(), attribute, &value, sizeof(value)),
      "cublasLtMatmulDescSetAttribute");
}
template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         T value) {
  check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
               "cublasLtMatmulPreferenceSetAttribute");
}

// The library promises that an algorithm may be stored as its words and used again with the same
// version.
constexpr size_t kWordDigits = 16;
std::string algorithm_text(const cublasLtMatmulAlgo_t& algorithm) {
  std::string text;
  for (const uint64_t word : algorithm.data) text += fmt::format("{:016x}", word);
  return text;
}
std::optional<cublasLtMatmulAlgo_t> algorithm_from(const std::string& text) {
  cublasLtMatmulAlgo_t algorithm{};
  if (text.size() != kWordDigits * std::size(algorithm.data)) return std::nullopt;
  const char* at = text.data();
  for (uint64_t& word : algorithm.data) {
    const auto [end, error] = std::from_chars(at, at + kWordDigits, word, 16);
    if (error != std::errc() || end != at + kWordDigits) return std::nullopt;
    at = end;
  }
  return algorithm;
}

[[noreturn]] void none_for(const GemmProblem& problem, const CudaBackend& backend) {
  const bool no_bf16 = problem.shape.in == DType::kBF16 && backend.capability() < 80;
  throw Error(ExitCode::kConfig, "linear",
              fmt::format("cuBLASLt {} has no algorithm for {} on {}", cublasLtGetVersion(),
                          problem.shape.text(), backend.properties().name),
              no_bf16 ? "this card has no bf16: set model.dtype: fp16" : "");
}

}  // namespace

void check_cublas(cublasStatus_t status, const std::string& what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw InternalError(fmt::format("[{}] {}", what, cublasLtGetStatusName(status)));
}

// The library's own default workspace is 32 MiB on Hopper; older cards split less.
CublasLt::CublasLt(CudaBackend& backend)
    : max_workspace((backend.capability() >= 90 ? int64_t{32} : int64_t{8}) << 20),
      backend_(backend),
      handle_(make_handle(backend)),
      tuning_(machine_text(backend)) {}

void CublasLt::make(const GemmProblem& problem, cublasComputeType_t compute, GemmPlan& plan) const {
  const GemmShape& s = problem.shape;
  const bool b_rows = s.b_depth == Depth::kAlongRows, a_rows = s.a_depth == Depth::kAlongRows;
  cublasLtMatmulDesc_t description = nullptr;
  check_cublas(cublasLtMatmulDescCreate(&description, compute, CUDA_R_32F),
               "cublasLtMatmulDescCreate");
  plan.description.reset(description);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSA, b_rows ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSB, a_rows ? CUBLAS_OP_N : CUBLAS_OP_T);
  if (s.bias) {
    set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, problem.bias);
    set(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(s.out));
  }
  plan.b = make_layout(s.in, b_rows ? s.k : s.n, b_rows ? s.n : s.k, s.b_stride);
  plan.a = make_layout(s.in, a_rows ? s.k : s.m, a_rows ? s.m : s.k, s.a_stride);
  plan.c = make_layout(s.out, s.n, s.m, s.c_stride);
}

CublasLt::Candidates CublasLt::candidates(const GemmProblem& problem, const GemmPlan& plan,
                                          int count) const {
  cublasLtMatmulPreference_t made = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  const CublasLtPtr<cublasLtMatmulPreferenceOpaque_t> preference(made);
  const GemmShape& s = problem.shape;
  const auto alignment = [](int bytes) { return static_cast<uint32_t>(bytes); };
  set(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(max_workspace));
  set(made, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(s.b_alignment));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(s.a_alignment));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(s.c_alignment));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(s.c_alignment));
  Candidates found(static_cast<size_t>(count));
  int returned = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_.get(), plan.description.get(), plan.b.get(), plan.a.get(), plan.c.get(), plan.c.get(),
      made, count, found.data(), &returned);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check_cublas(status, "cublasLtMatmulAlgoGetHeuristic");
  found.resize(status == CUBLAS_STATUS_SUCCESS ? static_cast<size_t>(returned) : 0);
  std::erase_if(found, [](const auto& each) { return each.state != CUBLAS_STATUS_SUCCESS; });
  return found;
}

// False too for an entry that the library no longer takes, or that is no entry at all.
bool CublasLt::from_table(const std::string& key, GemmPlan& plan) const {
  const std::string* text = tuning_.find(key);
  if (text == nullptr) return false;
  const std::optional<cublasLtMatmulAlgo_t> algorithm = algorithm_from(*text);
  cublasLtMatmulHeuristicResult_t checked{};
  if (algorithm &&
      cublasLtMatmulAlgoCheck(handle_.get(), plan.description.get(), plan.b.get(), plan.a.get(),
                              plan.c.get(), plan.c.get(), &*algorithm,
                              &checked) == CUBLAS_STATUS_SUCCESS &&
      checked.workspaceSize <= static_cast<size_t>(max_workspace)) {
    plan.algorithm = *algorithm;
    plan.workspace = static_cast<int64_t>(checked.workspaceSize);
    plan.settled = true;
    return true;
  }
  return false;
}

bool CublasLt::from_library(const GemmProblem& problem, GemmPlan& plan) const {
  const Candidates found = candidates(problem, plan, 1);
  if (found.empty()) return false;
  plan.algorithm = found.front().algo;
  plan.workspace = static_cast<int64_t>(found.front().workspaceSize);
  return true;
}

// A shape of generation, which comes and goes, is no entry of the table.
GemmPlan& CublasLt::plan_of(const Runtime& runtime, const GemmProblem& problem) {
  const auto known = plans_.find(problem.shape);
  if (known != plans_.end()) return known->second;
  if (plans_.size() >= kMaxPlans) plans_.clear();
  const std::string key = problem.shape.text();
  GemmPlan plan;
  const auto made = [&](auto choose) {
    for (const cublasComputeType_t compute : computes_of(problem.shape.in)) {
      make(problem, compute, plan);
      if (choose()) return true;
    }
    return false;
  };
  if (!made([&] { return from_table(key, plan); })) {
    tuning_.forget(key);
    if (!made([&] { return from_library(problem, plan); })) none_for(problem, backend_);
  }
  if (!plan.settled && runtime.training) tuning_.keep(key, algorithm_text(plan.algorithm));
  return plans_.emplace(problem.shape, std::move(plan)).first->second;
}

bool CublasLt::may_measure(const Runtime& runtime, const GemmProblem& problem) const {
  if (!tuning_.measure || !runtime.training || problem.shape.flops() < min_measured_flops)
    return false;
  if (problem.mode == WriteMode::kAccumulate && problem.shape.result_bytes() > kMaxTrialBytes)
    return false;
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(backend_.stream(), &capturing), "cudaStreamIsCapturing");
  return capturing == cudaStreamCaptureStatusNone;
}

cublasStatus_t CublasLt::enqueue(Runtime& runtime, const GemmProblem& problem,
                                 const GemmPlan& plan) {
  Tensor workspace;
  if (plan.workspace > 0)
    workspace = Tensor(runtime, {plan.workspace}, DType::kU8, MemoryTag::kWorkspace);
  if (problem.shape.bias) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, problem.bias);
  const float alpha = 1.0F, beta = problem.mode == WriteMode::kAccumulate ? 1.0F : 0.0F;
  return cublasLtMatmul(handle_.get(), plan.description.get(), &alpha, problem.b, plan.b.get(),
                        problem.a, plan.a.get(), &beta, problem.c, plan.c.get(), problem.c,
                        plan.c.get(), &plan.algorithm, workspace.raw(),
                        static_cast<size_t>(plan.workspace), backend_.stream());
}

// Milliseconds of `repeats` calls; nothing when the algorithm turns out not to run. Operands that
// fit into the second-level cache stay there between the calls, warmer than a step leaves them:
// that favours candidates that read them more often.
std::optional<float> CublasLt::time(Runtime& runtime, const GemmProblem& problem, GemmPlan& plan,
                                    int repeats) {
  const StreamEvent start(Timing::kKept), end(Timing::kKept);
  if (enqueue(runtime, problem, plan) != CUBLAS_STATUS_SUCCESS) return std::nullopt;
  start.record(backend_.stream());
  for (int i = 0; i < repeats; ++i) {
    if (enqueue(runtime, problem, plan) != CUBLAS_STATUS_SUCCESS) return std::nullopt;
  }
  end.record(backend_.stream());
  backend_.wait_for(end.get());  // what is before it may wait for other ranks: with a deadline
  return end.milliseconds_since(start);
}

// A result is written anew by every trial and once more by the call that asked, and a sum is tried
// on other memory, so trials leave no trace. Rounds go over all candidates in turn: a clock that
// changes meets all of them.
void CublasLt::measure(Runtime& runtime, const GemmProblem& problem, GemmPlan& plan) {
  const Candidates found = candidates(problem, plan, kCandidates);
  GemmProblem trial = problem;
  Tensor instead;
  if (problem.mode == WriteMode::kAccumulate) {
    instead = Tensor(runtime, {problem.shape.result_bytes()}, DType::kU8, MemoryTag::kWorkspace);
    trial.c = instead.raw();
  }
  std::vector<std::optional<float>> best(found.size(), std::numeric_limits<float>::infinity());
  const auto use = [&](size_t i) {
    plan.algorithm = found[i].algo;
    plan.workspace = static_cast<int64_t>(found[i].workspaceSize);
  };
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < found.size(); ++i) {
      if (!best[i]) continue;
      use(i);
      const std::optional<float> took = time(runtime, trial, plan, kRepeats);
      best[i] = took ? std::optional(std::min(*took, *best[i])) : std::nullopt;
    }
  }
  size_t fastest = 0;
  for (size_t i = 1; i < found.size(); ++i) {
    if (best[i] && (!best[fastest] || *best[i] < *best[fastest])) fastest = i;
  }
  if (found.empty() || !best[fastest]) none_for(problem, backend_);
  use(fastest);
  plan.settled = true;
  tuning_.keep_measured(problem.shape.text(), algorithm_text(plan.algorithm));
}

void CublasLt::run(Runtime& runtime, const GemmProblem& problem) {
  GemmPlan& plan = plan_of(runtime, problem);
  if (!plan.settled && may_measure(runtime, problem)) measure(runtime, problem, plan);
  const cublasStatus_t status = enqueue(runtime, problem, plan);
  if (status != CUBLAS_STATUS_SUCCESS)
    check_with_table(backend_, status, "linear " + problem.shape.text());
  backend_.launched("linear");
}

}  // namespace ink
