// Attention on AVX-512 vectors for f32 and bf16 storage (bf16 is widened while it is packed).
//
// The pragma stands before the tile headers only: what they define is instantiated here for this
// instruction set, everything included before it stays plain (engine/kernels/README.md).
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "engine/core/cpu_features.h"
#include "engine/core/dtype.h"
#include "engine/kernels/cpu/attention_run.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#include "engine/kernels/cpu/attention_backward.h"
#include "engine/kernels/cpu/attention_forward.h"
namespace ink {
namespace {

template <class T>
constexpr AttentionKernel kKernel = {
    forward_scratch_bytes<Lanes<float, 64>>, forward_item<Lanes<float, 64>, T>,
    backward_scratch_bytes<Lanes<float, 64>>, backward_item<Lanes<float, 64>, T>,
    fill_delta<Lanes<float, 64>, T>};

const AttentionKernel& kernel_of(DType dtype) {
  return dtype == DType::kBF16 ? kKernel<bf16> : kKernel<float>;
}

}  // namespace
}  // namespace ink
#pragma GCC pop_options

namespace ink {
namespace {

bool takes(DType dtype) { return has_avx512() && (dtype == DType::kF32 || dtype == DType::kBF16); }

void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents& documents,
             Tensor& out_TC, Tensor& lse_HT) {
  run_attention_forward(kernel_of(out_TC.dtype()), q, k, v, documents, out_TC, lse_HT);
}

bool takes_forward(const HeadsView& q, const HeadsView&, const HeadsView&, const Documents&,
                   Tensor&, Tensor&) {
  return takes(q.x_TC.dtype());
}

void backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k, const HeadsView& v,
              const Tensor& out_TC, const Tensor& lse_HT, const Documents& documents, HeadsView& dq,
              HeadsView& dk, HeadsView& dv) {
  run_attention_backward(kernel_of(out_TC.dtype()), dout_TC, q, k, v, out_TC, lse_HT, documents, dq,
                         dk, dv);
}

bool takes_backward(const Tensor& dout_TC, const HeadsView&, const HeadsView&, const HeadsView&,
                    const Tensor&, const Tensor&, const Documents&, HeadsView&, HeadsView&,
                    HeadsView&) {
  return takes(dout_TC.dtype());
}

void cached(const HeadsView& q, const KvCacheView& cache, Tensor& out_TC) {
  run_attention_cached(kernel_of(out_TC.dtype()), q, cache, out_TC);
}

bool takes_cached(const HeadsView& q, const KvCacheView&, Tensor&) { return takes(q.x_TC.dtype()); }

REGISTER_KERNEL(attention_forward, kCpu, avx512, forward, .priority = 10,
                .supports = takes_forward);
REGISTER_KERNEL(attention_backward, kCpu, avx512, backward, .priority = 10,
                .supports = takes_backward);
REGISTER_KERNEL(attention_cached, kCpu, avx512, cached, .priority = 10, .supports = takes_cached);

}  // namespace
}  // namespace ink
