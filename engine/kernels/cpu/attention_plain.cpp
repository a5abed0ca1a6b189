// Attention for any processor and every dtype: the shared tiles on 128-bit vectors.
#include "engine/kernels/cpu/attention_backward.h"
#include "engine/kernels/cpu/attention_candidate.h"
#include "engine/kernels/cpu/attention_forward.h"

namespace ink {
namespace {

template <class T>
constexpr AttentionKernel kKernel = {
    forward_scratch_bytes<Lanes<compute_t<T>, 16>>, forward_item<Lanes<compute_t<T>, 16>, T>,
    backward_scratch_bytes<Lanes<compute_t<T>, 16>>, backward_item<Lanes<compute_t<T>, 16>, T>,
    fill_delta<Lanes<compute_t<T>, 16>, T>};

const AttentionKernel* kernel_of(DType dtype) {
  return visit_float(dtype, []<class T>() { return &kKernel<T>; });
}

using Candidate = AttentionCandidate<kernel_of>;
REGISTER_KERNEL(attention_forward, kCpu, plain, Candidate::forward);
REGISTER_KERNEL(attention_backward, kCpu, plain, Candidate::backward);
REGISTER_KERNEL(attention_cached, kCpu, plain, Candidate::cached);

}  // namespace
}  // namespace ink
