// The functions of the attention slots over a table of tile functions: what the candidates
// register. Include it behind the tile headers, where the instruction set is plain again.
#pragma once

#include "engine/kernels/cpu/attention_run.h"

namespace ink {

// kKernelOf: the functions for a storage type, nullptr where the candidate or the machine has none.
template <const AttentionKernel* (*kKernelOf)(DType)>
struct AttentionCandidate {
  static void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                      const Documents& documents, Tensor& out_TC, Tensor& lse_HT) {
    run_attention_forward(*kKernelOf(out_TC.dtype()), q, k, v, documents, out_TC, lse_HT);
  }
  static bool takes_forward(const HeadsView& q, const HeadsView&, const HeadsView&,
                            const Documents&, Tensor&, Tensor&) {
    return kKernelOf(q.x_TC.dtype()) != nullptr;
  }

  static void backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k,
                       const HeadsView& v, const Tensor& out_TC, const Tensor& lse_HT,
                       const Documents& documents, HeadsView& dq, HeadsView& dk, HeadsView& dv) {
    run_attention_backward(*kKernelOf(out_TC.dtype()), dout_TC, q, k, v, out_TC, lse_HT, documents,
                           dq, dk, dv);
  }
  static bool takes_backward(const Tensor& dout_TC, const HeadsView&, const HeadsView&,
                             const HeadsView&, const Tensor&, const Tensor&, const Documents&,
                             HeadsView&, HeadsView&, HeadsView&) {
    return kKernelOf(dout_TC.dtype()) != nullptr;
  }

  static void cached(const HeadsView& q, const KvCacheView& cache, Tensor& out_TC) {
    run_attention_cached(*kKernelOf(out_TC.dtype()), q, cache, out_TC);
  }
  static bool takes_cached(const HeadsView& q, const KvCacheView&, Tensor&) {
    return kKernelOf(q.x_TC.dtype()) != nullptr;
  }
};

}  // namespace ink
