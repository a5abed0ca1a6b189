// Small ops: add, cast, sum, dropout.
//
// dropout keeps an element with probability 1 - p and scales it by 1 / (1 - p). Whether element (t,
// c) is kept depends on (seed, place, step, token_id_T[t], c) alone: the same on any layout, and
// again in a recomputed forward pass.
#pragma once

#include <string>

#include "engine/autograd/node.h"
#include "engine/core/philox.h"
#include "engine/kernels/kernel.h"

namespace ink {

[[nodiscard]] Tensor add(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor to_dtype(const Tensor& x, DType dtype);
[[nodiscard]] Tensor sum(const Tensor& x);  // scalar, f32 (f64 for f64)

struct DropoutKey {
  PhiloxKey key;  // philox_key(seed, "dropout.layers.3.attention")
  int64_t step = 0;
  Tensor step_state = {};  // one StepState on the device of x, or undefined; its batch.step holds
};
// token_id_T is i64. p = 0, or a runtime that is not training: returns x.
[[nodiscard]] Tensor dropout(const Tensor& x_TC, const Tensor& token_id_T, float p,
                             const DropoutKey& key);

DECLARE_KERNEL(add_forward, void(const Tensor& a, const Tensor& b, Tensor& y));
DECLARE_KERNEL(sum_forward, void(const Tensor& x, Tensor& y));
DECLARE_KERNEL(broadcast_scalar, void(const Tensor& scalar, Tensor& y));
DECLARE_KERNEL(dropout_apply, void(const Tensor& x_TC, const Tensor& token_id_T, float p,
                                   const DropoutKey& key, Tensor& y_TC));

}  // namespace ink
