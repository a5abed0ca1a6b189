#include "engine/ops/swiglu.h"

#include "engine/autograd/writable.h"

namespace ink {
namespace {

Tensor memory_of(const Tensor& x) { return writable(x) ? x : empty_like(x); }

// saved = {gate, up}. Their gradients are written over them, unless y is to be rebuilt from them
// later.
Grads backward(Node& self, Grads& dys) {
  const Tensor gate_TF = self.saved[0].get(), up_TF = self.saved[1].get();
  if (self.rebuildable.expired()) self.saved.clear();
  Tensor dgate_TF = memory_of(gate_TF), dup_TF = memory_of(up_TF);
  if (!self.awaiting.empty()) self.rebuilt = memory_of(dys[0]);
  swiglu_backward(gate_TF.device(), dys[0], gate_TF, up_TF, dgate_TF, dup_TF, self.rebuilt);
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
                       .rematerialize = rematerialize,
                       .rebuilds = true});
}

}  // namespace ink
