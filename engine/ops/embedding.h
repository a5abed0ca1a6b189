// Row lookup: y_TC[t] = w_VC[ids_T[t]]. ids are i32, checked to be in range before they get here.
//
// The gradient adds rows in token order for every row of the table, so it does not depend on the
// thread count: in f32 (f64), rounded once where it is stored in 16 bits.
#pragma once

#include "engine/autograd/node.h"
#include "engine/kernels/kernel.h"

namespace ink {

[[nodiscard]] Tensor embedding(const Tensor& ids_T, const Tensor& w_VC);

DECLARE_KERNEL(embedding_forward, void(const Tensor& ids_T, const Tensor& w_VC, Tensor& y_TC));
DECLARE_KERNEL(embedding_backward,
               void(const Tensor& dy_TC, const Tensor& ids_T, WriteMode mode, Tensor& dw_VC));

}  // namespace ink
