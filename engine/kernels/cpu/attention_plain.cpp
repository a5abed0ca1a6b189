// Attention for any processor and every dtype: the shared tiles on 128-bit vectors.
#include "engine/kernels/cpu/attention_backward.h"
#include "engine/kernels/cpu/attention_forward.h"
#include "engine/kernels/cpu/attention_run.h"

namespace ink {
namespace {

template <class T>
AttentionKernel kernel_for() {
  using L = Lanes<compute_t<T>, 16>;
  return {forward_scratch_bytes<L>, forward_item<L, T>, backward_scratch_bytes<L>,
          backward_item<L, T>, fill_delta<L, T>};
}

AttentionKernel kernel_of(DType dtype) {
  return visit_float(dtype, []<class T>() { return kernel_for<T>(); });
}

void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents& documents,
             Tensor& out_TC, Tensor& lse_HT) {
  run_attention_forward(kernel_of(out_TC.dtype()), q, k, v, documents, out_TC, lse_HT);
}

void backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k, const HeadsView& v,
              const Tensor& out_TC, const Tensor& lse_HT, const Documents& documents, HeadsView& dq,
              HeadsView& dk, HeadsView& dv) {
  run_attention_backward(kernel_of(out_TC.dtype()), dout_TC, q, k, v, out_TC, lse_HT, documents, dq,
                         dk, dv);
}

void cached(const HeadsView& q, const KvCacheView& cache, Tensor& out_TC) {
  run_attention_cached(kernel_of(out_TC.dtype()), q, cache, out_TC);
}

REGISTER_KERNEL(attention_forward, kCpu, plain, forward);
REGISTER_KERNEL(attention_backward, kCpu, plain, backward);
REGISTER_KERNEL(attention_cached, kCpu, plain, cached);

}  // namespace
}  // namespace ink
