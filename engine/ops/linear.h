// y = x * W^T + b. Shapes: x_TI, w_OI, bias_O, y_TO; sums in f32 (f64 for f64).
//
// Called by every projection of a model and, through its slots, by the loss. The weight gradient is
// added to the parameter's own gradient by the GEMM itself, that of x to what other readers of x
// have given; when Runtime::deferred is set the weight gradient is queued there instead of run. x,
// w and y have one dtype. The gradient of w and b is f32 (f64 for f64), that of a w in bf16 may be
// bf16: sums stay f32 and are rounded to nearest, once per call.
#pragma once

#include "engine/autograd/node.h"
#include "engine/kernels/kernel.h"

namespace ink {

[[nodiscard]] Tensor linear(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O = {});

// bias may be undefined. y may have a wider dtype than x (logits in f32). Rows may be strided.
DECLARE_KERNEL(linear_forward,
               void(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O, Tensor& y_TO));
DECLARE_KERNEL(linear_backward_input,
               void(const Tensor& dy_TO, const Tensor& w_OI, WriteMode mode, Tensor& dx_TI));
DECLARE_KERNEL(linear_backward_weight,
               void(const Tensor& dy_TO, const Tensor& x_TI, WriteMode mode, Tensor& dw_OI));
DECLARE_KERNEL(linear_backward_bias, void(const Tensor& dy_TO, WriteMode mode, Tensor& db_O));

}  // namespace ink
