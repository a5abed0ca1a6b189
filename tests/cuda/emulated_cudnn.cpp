// cuDNN of the emulated program, as it fails: EMULATED_CUDNN is the message with which it refuses
// every shape that the real one is asked about. Unset: there is none, as in a build without it.
#include <cstdlib>

#include "engine/kernels/cuda/cudnn_messages.h"
#include "engine/kernels/tuning.h"
#include "engine/ops/attention.h"

namespace ink {
namespace {

bool refuses(const Tensor& x, const char* slot) {
  if (x.dtype() != DType::kBF16 && x.dtype() != DType::kF16) return false;
  const std::string reason = cudnn::refusal_of(cuda_backend(x), std::getenv("EMULATED_CUDNN"));
  tuning_of(x.runtime())->refuse({slot, "cudnn", reason});
  return false;
}

bool takes_forward(const HeadsView& q, const HeadsView&, const HeadsView&, const Documents&,
                   Tensor&, Tensor&) {
  return refuses(q.x_TC, attention_forward.name());
}

bool takes_backward(const Tensor&, const HeadsView& q, const HeadsView&, const HeadsView&,
                    const Tensor&, const Tensor&, const Documents&, HeadsView&, HeadsView&,
                    HeadsView&) {
  return refuses(q.x_TC, attention_backward.name());
}

[[maybe_unused]] const bool registered =
    std::getenv("EMULATED_CUDNN") != nullptr &&
    attention_forward.add(Device::kCuda, "cudnn", nullptr,
                          {.priority = 20, .supports = takes_forward}) &&
    attention_backward.add(Device::kCuda, "cudnn", nullptr,
                           {.priority = 20, .supports = takes_backward});

}  // namespace
}  // namespace ink
