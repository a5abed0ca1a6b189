// cuBLASLt for one rank: the handle, a plan per problem shape, and the choice of its algorithm.
//
// C = A * B^T of row-major matrices is C^T = B * A^T of the library's column-major ones, so B is
// its first operand and the bias runs along its rows. Products are f32 sums; f32 operands stay f32
// (pedantic: neither TF32 nor emulation).
//
// The algorithm of a shape: what the table of earlier choices names and the library still takes;
// else the fastest of the library's candidates, timed on the first call; else (measuring is off,
// the shape is small, the stream is being captured, or trials of a sum would take much memory
// beside it) the library's own first candidate. One algorithm serves both write modes: the library
// does not choose by beta. Partial sums of split products are only reduced in f32 and in a fixed
// order, so an algorithm repeats its bits.
#pragma once

#include <cublasLt.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "engine/kernels/cuda/gemm_problem.h"
#include "engine/kernels/tuning.h"
#include "engine/tensor/cuda_backend.h"

namespace ink {

// Throws InternalError on anything but success; `what` names the call.
void check_cublas(cublasStatus_t status, const std::string& what);

struct CublasLtDestroy {
  void operator()(cublasLtContext* handle) const { (void)cublasLtDestroy(handle); }
  void operator()(cublasLtMatmulDescOpaque_t* d) const { (void)cublasLtMatmulDescDestroy(d); }
  void operator()(cublasLtMatrixLayoutOpaque_t* l) const { (void)cublasLtMatrixLayoutDestroy(l); }
  void operator()(cublasLtMatmulPreferenceOpaque_t* p) const {
    (void)cublasLtMatmulPreferenceDestroy(p);
  }
};
template <class T>
using CublasLtPtr = std::unique_ptr<T, CublasLtDestroy>;

struct GemmPlan {
  CublasLtPtr<cublasLtMatmulDescOpaque_t> description;
  CublasLtPtr<cublasLtMatrixLayoutOpaque_t> b, a, c;
  cublasLtMatmulAlgo_t algorithm{};
  int64_t workspace = 0;  // bytes that the algorithm wants
  bool settled = false;   // from the table or measured; else a later call may still measure
};

class CublasLt {
 public:
  explicit CublasLt(CudaBackend& backend);

  // m, n and k are above zero. The workspace comes from the runtime's allocator.
  void run(Runtime& runtime, const GemmProblem& problem);
  [[nodiscard]] KernelTuning& tuning() { return tuning_; }

  // Below this many floating-point operations no algorithm is worth a measurement.
  double min_measured_flops = 1e8;
  // Bytes of workspace that an algorithm may want. Less of it leaves fewer to choose from.
  int64_t max_workspace;

 private:
  using Candidates = std::vector<cublasLtMatmulHeuristicResult_t>;

  GemmPlan& plan_of(const Runtime& runtime, const GemmProblem& problem);
  void make(const GemmProblem& problem, cublasComputeType_t compute, GemmPlan& plan) const;
  // Empty when the library has none.
  [[nodiscard]] Candidates candidates(const GemmProblem& problem, const GemmPlan& plan,
                                      int count) const;
  [[nodiscard]] bool from_table(const std::string& key, GemmPlan& plan) const;
  [[nodiscard]] bool from_library(const GemmProblem& problem, GemmPlan& plan) const;
  [[nodiscard]] bool may_measure(const Runtime& runtime, const GemmProblem& problem) const;
  void measure(Runtime& runtime, const GemmProblem& problem, GemmPlan& plan);
  [[nodiscard]] std::optional<float> time(Runtime& runtime, const GemmProblem& problem,
                                          GemmPlan& plan, int repeats);
  cublasStatus_t enqueue(Runtime& runtime, const GemmProblem& problem, const GemmPlan& plan);

  CudaBackend& backend_;
  CublasLtPtr<cublasLtContext> handle_;
  KernelTuning tuning_;
  std::map<GemmShape, GemmPlan> plans_;
};

}  // namespace ink
