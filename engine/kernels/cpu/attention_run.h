// Runs the items of an attention problem on the threads of a rank. The candidates
// (attention_{plain,avx2,avx512}.cpp) bring the functions, one set per storage type; their scratch
// memory is workspace of the runtime.
#pragma once

#include "engine/kernels/cpu/attention_problem.h"

namespace ink {

struct AttentionKernel {
  using RunItem = void(const AttentionProblem&, const AttentionItem&, std::byte* scratch);
  using ScratchBytes = int64_t(const AttentionProblem&);
  ScratchBytes* forward_bytes;  // scratch memory of a thread for any item of the problem
  RunItem* forward;
  ScratchBytes* backward_bytes;
  RunItem* backward;
  void (*fill_delta)(const AttentionProblem&, int64_t token);
};

void run_attention_forward(const AttentionKernel& kernel, const HeadsView& q, const HeadsView& k,
                           const HeadsView& v, const Documents& documents, Tensor& out_TC,
                           Tensor& lse_HT);
void run_attention_backward(const AttentionKernel& kernel, const Tensor& dout_TC,
                            const HeadsView& q, const HeadsView& k, const HeadsView& v,
                            const Tensor& out_TC, const Tensor& lse_HT, const Documents& documents,
                            HeadsView& dq, HeadsView& dk, HeadsView& dv);
void run_attention_cached(const AttentionKernel& kernel, const HeadsView& q,
                          const KvCacheView& cache, Tensor& out_TC);

}  // namespace ink
