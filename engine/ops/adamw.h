// Decoupled AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization"), one fused pass
// over a flat range.
//
//   g = grad * state.grad_factor
//   m = beta1 m + (1 - beta1) g         v = beta2 v + (1 - beta2) g^2
//   w = w - lr * lr_scale * wd * w - lr * lr_scale * (m / bias1) / (sqrt(v / bias2) + eps)
// in f32, whatever the storage. With a master, w is the master and `param` receives its rounding.
// Without one and with a 16-bit param, and for 16-bit moments, results are rounded stochastically
// by Philox keyed by (key, element, update). Nothing is written when state.skip is set.
#pragma once

#include "engine/autograd/node.h"
#include "engine/core/philox.h"
#include "engine/kernels/kernel.h"
#include "engine/ops/step_state.h"

namespace ink {

struct AdamWOptions {
  double beta1 = 0.9, eps = 1e-8, weight_decay = 0, lr_scale = 1.0;
  PhiloxKey key;              // of the parameter, for stochastic rounding
  int64_t first_element = 0;  // global element index of element 0 of these tensors
};

// grad f32, or bf16 beside a param in bf16; param f32, bf16 or, with a master, f16; master f32 or
// undefined; m, v f32 or bf16. All flat, equal length. state: one StepState.
DECLARE_KERNEL(adamw_update,
               void(const Tensor& grad, const Tensor& state, const AdamWOptions& options,
                    Tensor& param, Tensor& master, Tensor& m, Tensor& v));

struct AdamWItem {
  Tensor grad, param, master, m, v;
  AdamWOptions options;
};
// adamw_update of every item, in as few launches as the device needs.
DECLARE_KERNEL(adamw_update_many, void(std::span<const AdamWItem> items, const Tensor& state));

}  // namespace ink
