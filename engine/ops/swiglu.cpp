#include "engine/ops/swiglu.h"

namespace ink {
namespace {

// saved = {gate, up}
Grads backward(Node& self, Grads& dys) {
  const Tensor gate_TF = self.saved[0].get(), up_TF = self.saved[1].get();
  Tensor& dy_TF = dys[0];
  Tensor dgate_TF = dy_TF.sole_owner() && dy_TF.contiguous() ? dy_TF : empty_like(gate_TF);
  Tensor dup_TF = empty_like(up_TF);
  swiglu_backward(gate_TF.device(), dy_TF, gate_TF, up_TF, dgate_TF, dup_TF);
  return {dgate_TF, dup_TF};
}

Tensor rematerialize(const Node& self) {
  const Tensor gate_TF = self.saved[0].get(), up_TF = self.saved[1].get();
  Tensor y_TF = empty_like(gate_TF);
  swiglu_forward(gate_TF.device(), gate_TF, up_TF, y_TF);
  return y_TF;
}

}  // namespace

Tensor swiglu(const Tensor& gate_TF, const Tensor& up_TF) {
  CHECK_OP("swiglu", gate_TF.shape() == up_TF.shape() && gate_TF.dtype() == up_TF.dtype(),
           "gate_TF is {} {}, up_TF is {} {}", gate_TF.shape().str(), name_of(gate_TF.dtype()),
           up_TF.shape().str(), name_of(up_TF.dtype()));
  Tensor y_TF = empty_like(gate_TF);
  swiglu_forward(gate_TF.device(), gate_TF, up_TF, y_TF);
  return record(y_TF, {.op = "swiglu",
                       .inputs = {gate_TF, up_TF},
                       .saved = {gate_TF, up_TF},
                       .handles = {},
                       .backward = backward,
                       .rematerialize = rematerialize});
}

}  // namespace ink
