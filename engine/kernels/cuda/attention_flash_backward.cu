// Attention backward on tensor cores: FlashAttention-2 (Dao, 2023) for head_dim 64 and 128 in bf16
// and f16. With P = exp(S - lse), D = rowsum(dO * O) and dS = P * (dO V^T - D):
//   dV = P^T dO     dK = dS^T Q / sqrt(d)     dQ = dS K / sqrt(d)
// One kernel over tiles of keys and one over tiles of rows, so that no sum crosses blocks: scores
// and dO V^T are computed twice, 14 D flops per visible pair instead of 10, and every sum has one
// order.
#include "engine/kernels/cuda/attention_backward.h"
#include "engine/kernels/cuda/attention_flash.h"

namespace ink {
namespace {

void backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k, const HeadsView& v,
              const Tensor& out_TC, const Tensor& lse_HT, const Documents& documents, HeadsView& dq,
              HeadsView& dk, HeadsView& dv) {
  const AttentionBackward problem =
      packed_backward(dout_TC, q, k, v, out_TC, lse_HT, documents, dq, dk, dv);
  flash_backward_keys(problem);
  flash_backward_queries(problem);
}

bool takes_backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k,
                    const HeadsView& v, const Tensor&, const Tensor&, const Documents&,
                    HeadsView& dq, HeadsView& dk, HeadsView& dv) {
  return flash_takes_backward(dout_TC, q, k, v, dq, dk, dv);
}

REGISTER_KERNEL(attention_backward, kCuda, flash_mma, backward, .priority = 10,
                .supports = takes_backward);

}  // namespace
}  // namespace ink
