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

}  // namespace
}  // namespace ink
#pragma GCC pop_options

#include "engine/kernels/cpu/attention_candidate.h"

namespace ink {
namespace {

const AttentionKernel* kernel_of(DType dtype) {
  if (!has_avx512()) return nullptr;
  return dtype == DType::kF32 ? &kKernel<float> : dtype == DType::kBF16 ? &kKernel<bf16> : nullptr;
}

using Candidate = AttentionCandidate<kernel_of>;
REGISTER_KERNEL(attention_forward, kCpu, avx512, Candidate::forward, .priority = 10,
                .supports = Candidate::takes_forward);
REGISTER_KERNEL(attention_backward, kCpu, avx512, Candidate::backward, .priority = 10,
                .supports = Candidate::takes_backward);
REGISTER_KERNEL(attention_cached, kCpu, avx512, Candidate::cached, .priority = 10,
                .supports = Candidate::takes_cached);

}  // namespace
}  // namespace ink
