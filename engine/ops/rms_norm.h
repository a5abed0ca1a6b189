// y = cast(x * rsqrt(mean(x^2) + eps)) * w over the last dimension; statistics in f32 (f64 for
// f64).
//
// The normalised x is rounded to x's dtype, multiplied by w, rounded again (InternLM's rule). w has
// x's dtype or f32. add_rms_norm fuses the residual stream: h = x + delta, n = rms_norm(h); blocks
// pass {x, delta} on. Under selective recompute n is not kept by its consumers: it is rebuilt from
// h and rstd.
#pragma once

#include "engine/autograd/node.h"
#include "engine/kernels/kernel.h"

namespace ink {

struct Normed {
  Tensor h_TC;  // the residual stream
  Tensor n_TC;  // its norm
};

[[nodiscard]] Tensor rms_norm(const Tensor& x_TC, const Tensor& w_C, float eps);
// delta may be undefined (the first block): then h is x.
[[nodiscard]] Normed add_rms_norm(const Tensor& x_TC, const Tensor& delta_TC, const Tensor& w_C,
                                  float eps);

// rstd_R is f32 (f64 for f64), one per row.
DECLARE_KERNEL(rms_norm_forward, void(const Tensor& x_TC, const Tensor& w_C, float eps,
                                      Tensor& n_TC, Tensor& rstd_R));
DECLARE_KERNEL(add_rms_norm_forward,
               void(const Tensor& x_TC, const Tensor& delta_TC, const Tensor& w_C, float eps,
                    Tensor& h_TC, Tensor& n_TC, Tensor& rstd_R));
// n from h and rstd, for recompute.
DECLARE_KERNEL(rms_norm_apply,
               void(const Tensor& h_TC, const Tensor& w_C, const Tensor& rstd_R, Tensor& n_TC));
// dx = dh (undefined: 0) + gradient through the norm. dx may be the memory of dn or dh.
DECLARE_KERNEL(rms_norm_backward_input,
               void(const Tensor& dn_TC, const Tensor& dh_TC, const Tensor& h_TC, const Tensor& w_C,
                    const Tensor& rstd_R, Tensor& dx_TC));
// dw in a fixed order of rows for a given thread count.
DECLARE_KERNEL(rms_norm_backward_weight, void(const Tensor& dn_TC, const Tensor& h_TC,
                                              const Tensor& rstd_R, WriteMode mode, Tensor& dw_C));
// Both of them, of a weight that is trained. dx may be the memory of dn or dh.
DECLARE_KERNEL(rms_norm_backward,
               void(const Tensor& dn_TC, const Tensor& dh_TC, const Tensor& h_TC, const Tensor& w_C,
                    const Tensor& rstd_R, WriteMode mode, Tensor& dw_C, Tensor& dx_TC));

}  // namespace ink
