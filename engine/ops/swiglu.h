// y = silu(gate) * up, silu(g) = g / (1 + exp(-g)); computed in f32 (f64 for f64).
//
// Saves gate and up; under selective recompute y is not kept by its consumer but rebuilt, with the
// gradients where the consumer can wait for them.
#pragma once

#include "engine/autograd/node.h"
#include "engine/kernels/kernel.h"

namespace ink {

[[nodiscard]] Tensor swiglu(const Tensor& gate_TF, const Tensor& up_TF);

DECLARE_KERNEL(swiglu_forward, void(const Tensor& gate_TF, const Tensor& up_TF, Tensor& y_TF));
// y is made again where it is defined. dgate may be the memory of gate or dy, dup that of up, y
// that of dy.
DECLARE_KERNEL(swiglu_backward,
               void(const Tensor& dy_TF, const Tensor& gate_TF, const Tensor& up_TF,
                    Tensor& dgate_TF, Tensor& dup_TF, Tensor& y_TF));

}  // namespace ink
