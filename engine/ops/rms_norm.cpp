#include "engine/ops/rms_norm.h"

#include "engine/autograd/writable.h"

namespace ink {
namespace {

void check_weight(const char* op, const Tensor& x_TC, const Tensor& w_C) {
  CHECK_OP(op, x_TC.rank() >= 1, "x_TC is a scalar");
  CHECK_OP(op, w_C.numel() == x_TC.cols(), "weight has {} elements, x_TC has C={}", w_C.numel(),
           x_TC.cols());
  CHECK_OP(op, w_C.dtype() == x_TC.dtype() || w_C.dtype() == DType::kF32,
           "weight is {}, x_TC is {}", name_of(w_C.dtype()), name_of(x_TC.dtype()));
}

Tensor empty_rstd(const Tensor& x_TC) {
  return {x_TC.runtime(), {x_TC.rows()}, x_TC.dtype() == DType::kF64 ? DType::kF64 : DType::kF32};
}

// saved = {h, rstd}, handles = {w}. dh is undefined where nobody used h.
Tensor backward(Node& self, const Tensor& dh_TC, const Tensor& dn_TC) {
  if (!dn_TC.defined()) return dh_TC;
  const Tensor h_TC = self.saved[0].get(), rstd_R = self.saved[1].get();
  const Device device = h_TC.device();
  const Handle& w = self.handles[0];
  Tensor dx_TC = writable(dn_TC) ? dn_TC : writable(dh_TC) ? dh_TC : empty_like(h_TC);
  if (!w.wants_grad()) {
    rms_norm_backward_input(device, dn_TC, dh_TC, h_TC, w.value(), rstd_R, dx_TC);
    return dx_TC;
  }
  w.accumulate([&](Tensor& dw_C, WriteMode mode) {
    rms_norm_backward(device, dn_TC, dh_TC, h_TC, w.value(), rstd_R, mode, dw_C, dx_TC);
  });
  return dx_TC;
}

Tensor rematerialize(const Node& self) {
  const Tensor h_TC = self.saved[0].get();
  Tensor n_TC = empty_like(h_TC);
  rms_norm_apply(h_TC.device(), h_TC, self.handles[0].value(), self.saved[1].get(), n_TC);
  return n_TC;
}

}  // namespace

Tensor rms_norm(const Tensor& x_TC, const Tensor& w_C, float eps) {
  check_weight("rms_norm", x_TC, w_C);
  Tensor n_TC = empty_like(x_TC), rstd_R = empty_rstd(x_TC);
  rms_norm_forward(x_TC.device(), x_TC, w_C, eps, n_TC, rstd_R);
  return record(n_TC, {.op = "rms_norm",
                       .inputs = {x_TC},
                       .saved = {x_TC, rstd_R},
                       .handles = {Handle(w_C)},
                       .backward = [](Node& self, Grads& dys) -> Grads {
                         return {backward(self, {}, dys[0])};
                       },
                       .rematerialize = rematerialize});
}

Normed add_rms_norm(const Tensor& x_TC, const Tensor& delta_TC, const Tensor& w_C, float eps) {
  check_weight("add_rms_norm", x_TC, w_C);
  const bool adds = delta_TC.defined();
  CHECK_OP("add_rms_norm",
           !adds || (delta_TC.shape() == x_TC.shape() && delta_TC.dtype() == x_TC.dtype()),
           "delta_TC is {} {}, x_TC is {} {}", delta_TC.shape().str(), name_of(delta_TC.dtype()),
           x_TC.shape().str(), name_of(x_TC.dtype()));
  Tensor h_TC = adds ? empty_like(x_TC) : x_TC.detach();
  Tensor n_TC = empty_like(x_TC), rstd_R = empty_rstd(x_TC);
  if (adds) {
    add_rms_norm_forward(x_TC.device(), x_TC, delta_TC, w_C, eps, h_TC, n_TC, rstd_R);
  } else {
    rms_norm_forward(x_TC.device(), x_TC, w_C, eps, n_TC, rstd_R);
  }
  record({&h_TC, &n_TC}, {.op = "add_rms_norm",
                          .inputs = adds ? std::vector{x_TC, delta_TC} : std::vector{x_TC},
                          .saved = {h_TC, rstd_R},
                          .handles = {Handle(w_C)},
                          .backward = [adds](Node& self, Grads& dys) -> Grads {
                            const Tensor dx_TC = backward(self, dys[0], dys[1]);
                            return adds ? Grads{dx_TC, dx_TC} : Grads{dx_TC};
                          },
                          .rematerialize = rematerialize});
  return {h_TC, n_TC};
}

}  // namespace ink
