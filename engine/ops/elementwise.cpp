#include "engine/ops/elementwise.h"

#include "engine/autograd/backward.h"

namespace ink {

Tensor add(const Tensor& a, const Tensor& b) {
  CHECK_OP("add", a.shape() == b.shape() && a.dtype() == b.dtype(), "a is {} {}, b is {} {}",
           a.shape().str(), name_of(a.dtype()), b.shape().str(), name_of(b.dtype()));
  Tensor y = empty_like(a);
  add_forward(a.device(), a, b, y);
  return record(y, {.op = "add",
                    .inputs = {a, b},
                    .saved = {},
                    .handles = {},
                    .backward = [](Node&, Grads& dys) -> Grads {
                      return {dys[0], dys[0]};
                    },
                    .rematerialize = nullptr});
}

Tensor to_dtype(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = empty_like(x, dtype);
  cast(x.device(), x, y);
  return record(y, {.op = "to_dtype",
                    .inputs = {x},
                    .saved = {},
                    .handles = {},
                    .backward = [before = x.dtype()](Node&, Grads& dys) -> Grads {
                      Tensor dx = empty_like(dys[0], before);
                      cast(dx.device(), dys[0], dx);
                      return {dx};
                    },
                    .rematerialize = nullptr});
}

Tensor sum(const Tensor& x) {
  Tensor y(x.runtime(), {}, x.dtype() == DType::kF64 ? DType::kF64 : DType::kF32);
  sum_forward(x.device(), x, y);
  return record(y, {.op = "sum",
                    .inputs = {x},
                    .saved = {},
                    .handles = {},
                    .backward = [shape = x.shape(), dtype = x.dtype()](Node&, Grads& dys) -> Grads {
                      Tensor dx(dys[0].runtime(), shape, dtype);
                      broadcast_scalar(dx.device(), dys[0], dx);
                      return {dx};
                    },
                    .rematerialize = nullptr});
}

Tensor dropout(const Tensor& x_TC, const Tensor& token_id_T, float p, const DropoutKey& key) {
  CHECK_OP("dropout", p >= 0 && p < 1, "expected p in [0, 1), got {}", p);
  if (p == 0 || !x_TC.runtime().training) return x_TC;
  CHECK_OP("dropout", token_id_T.numel() == x_TC.rows(),
           "token_id_T has {} elements, x_TC has T={}", token_id_T.numel(), x_TC.rows());
  Tensor y_TC = empty_like(x_TC);
  dropout_apply(x_TC.device(), x_TC, token_id_T, p, key, y_TC);
  return record(y_TC, {.op = "dropout",
                       .inputs = {x_TC},
                       .saved = {token_id_T},
                       .handles = {},
                       .backward = [p, key](Node& self, Grads& dys) -> Grads {
                         Tensor dx_TC = empty_like(dys[0]);
                         dropout_apply(dx_TC.device(), dys[0], self.saved[0].get(), p, key, dx_TC);
                         return {dx_TC};
                       },
                       .rematerialize = nullptr});
}

}  // namespace ink
