// Attention backward for sm_90a, head_dim 64 and 128 in bf16 and f16: the arithmetic, the two
// passes and the orders of sums of attention_flash_backward.cu with products of a warpgroup
// (wgmma). Compiled for sm_90a alone (engine/CMakeLists.txt).
//
// 14 D flops per visible pair, of which 10 D count by the usual convention: with 60% of the tensor
// cores' 989 TF an H100 would reach 420 TF (estimate). cuDNN and FlashAttention-3 add dQ across
// blocks of keys, which saves the second pass and gives up the order of its sums.
#include "engine/kernels/cuda/attention_backward.h"
#include "engine/kernels/cuda/attention_flash.h"

namespace ink {
namespace {

void backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k, const HeadsView& v,
              const Tensor& out_TC, const Tensor& lse_HT, const Documents& documents, HeadsView& dq,
              HeadsView& dk, HeadsView& dv) {
  const AttentionBackward problem =
      packed_backward(dout_TC, q, k, v, out_TC, lse_HT, documents, dq, dk, dv);
  wgmma_backward_keys(problem);
  wgmma_backward_queries(problem);
}

// Code for sm_90a runs on 9.0 and on nothing newer.
bool takes_backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k,
                    const HeadsView& v, const Tensor&, const Tensor&, const Documents&,
                    HeadsView& dq, HeadsView& dk, HeadsView& dv) {
  return cuda_backend(dout_TC).capability() == 90 &&
         flash_takes_backward(dout_TC, q, k, v, dq, dk, dv);
}

// Below flash_mma until a card has timed both: docs/gpu.md says how to choose it.
REGISTER_KERNEL(attention_backward, kCuda, flash_wgmma, backward, .priority = 5,
                .supports = takes_backward);

}  // namespace
}  // namespace ink
