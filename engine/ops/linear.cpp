#include "engine/ops/linear.h"

#include <utility>

namespace ink {
namespace {

using Handles = std::vector<Handle>;  // w, and b where there is one

void add_weight_gradient(const Handles& handles, const Tensor& x_TI, const Tensor& dy_TO) {
  const Device device = dy_TO.device();
  handles[0].accumulate([&](Tensor& dw_OI, WriteMode mode) {
    linear_backward_weight(device, dy_TO, x_TI, mode, dw_OI);
  });
  if (handles.size() < 2) return;
  handles[1].accumulate(
      [&](Tensor& db_O, WriteMode mode) { linear_backward_bias(device, dy_TO, mode, db_O); });
}

// The weight gradient outside of this node's backward: it takes handles and dy with it and closes
// the uses.
struct LaterGradient {
  Handles handles;
  Tensor dy_TO;
  void run(const Tensor& x_TI) {
    add_weight_gradient(handles, x_TI, dy_TO);
    for (const Handle& handle : handles) handle.done();
    *this = {};  // not when the queue is cleared
  }
};

Tensor input_gradient(Node& self, const Tensor& dy_TO, const Tensor& w_OI) {
  const Node::Edge& edge = self.edges[0];
  if (!edge.node && !edge.leaf) return {};
  Tensor dx_TI = std::move(self.sums[0]);
  const WriteMode mode = dx_TI.defined() ? WriteMode::kAccumulate : WriteMode::kOverwrite;
  if (!dx_TI.defined()) dx_TI = Tensor(dy_TO.runtime(), {dy_TO.rows(), w_OI.cols()}, dy_TO.dtype());
  linear_backward_input(dy_TO.device(), dy_TO, w_OI, mode, dx_TI);
  return dx_TI;
}

// saved = {x} unless w is frozen, handles = {w[, b]}. The weight gradient goes first, so that x may
// be freed before dx is there; unless it is deferred, or x is rebuilt with its own gradient.
Grads backward(Node& self, Grads& dys) {
  const Tensor dy_TO = std::move(dys[0]);
  const Tensor w_OI = self.handles[0].value();
  const bool wanted = needs_record(dy_TO.runtime(), {}, self.handles);
  Saved x;
  if (!self.saved.empty()) x = std::move(self.saved[0]);
  self.saved.clear();
  Node* const source = self.edges[0].node.get();
  if (DeferredGradients* deferred = dy_TO.runtime().deferred; deferred && wanted) {
    deferred->push_back([later = LaterGradient{std::move(self.handles), dy_TO},
                         x = std::move(x)]() mutable { later.run(std::exchange(x, {}).get()); });
    self.handles.clear();
  } else if (wanted && source != nullptr && x.comes_with_backward_of(*source)) {
    source->awaiting.emplace_back([later = LaterGradient{std::move(self.handles), dy_TO}](
                                      const Tensor& x_TI) mutable { later.run(x_TI); });
    self.handles.clear();
  } else if (wanted) {
    add_weight_gradient(self.handles, x.get(), dy_TO);
  }
  x = {};
  return {input_gradient(self, dy_TO, w_OI)};
}

void check(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O) {
  CHECK_OP("linear", x_TI.rank() == 2 && w_OI.rank() == 2, "x_TI is {}, w_OI is {}",
           x_TI.shape().str(), w_OI.shape().str());
  CHECK_OP("linear", x_TI.cols() == w_OI.cols(), "w_OI has I={}, x_TI has I={}", w_OI.cols(),
           x_TI.cols());
  CHECK_OP("linear", x_TI.dtype() == w_OI.dtype(), "w_OI is {}, x_TI is {}", name_of(w_OI.dtype()),
           name_of(x_TI.dtype()));
  if (!bias_O.defined()) return;
  CHECK_OP("linear", bias_O.numel() == w_OI.rows(), "bias has {} elements, w_OI has O={}",
           bias_O.numel(), w_OI.rows());
  CHECK_OP("linear", bias_O.dtype() == x_TI.dtype(), "bias is {}, x_TI is {}",
           name_of(bias_O.dtype()), name_of(x_TI.dtype()));
}

}  // namespace

Tensor linear(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O) {
  check(x_TI, w_OI, bias_O);
  Tensor y_TO(x_TI.runtime(), {x_TI.rows(), w_OI.rows()}, x_TI.dtype());
  linear_forward(x_TI.device(), x_TI, w_OI, bias_O, y_TO);
  std::vector<Handle> handles{Handle(w_OI)};
  if (bias_O.defined()) handles.emplace_back(bias_O);
  std::vector<Saved> saved;
  if (handles[0].wants_grad()) saved.emplace_back(x_TI);
  return record(y_TO, {.op = "linear",
                       .inputs = {x_TI},
                       .saved = std::move(saved),
                       .handles = std::move(handles),
                       .backward = backward,
                       .rematerialize = nullptr,
                       .adds = true});
}

}  // namespace ink
