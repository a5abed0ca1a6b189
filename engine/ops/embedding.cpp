#include "engine/ops/embedding.h"

namespace ink {

Tensor embedding(const Tensor& ids_T, const Tensor& w_VC) {
  CHECK_OP("embedding", ids_T.rank() == 1 && ids_T.dtype() == DType::kI32, "ids_T is {} {}",
           name_of(ids_T.dtype()), ids_T.shape().str());
  CHECK_OP("embedding", w_VC.rank() == 2, "w_VC is {}", w_VC.shape().str());
  Tensor y_TC(w_VC.runtime(), {ids_T.numel(), w_VC.cols()}, w_VC.dtype());
  embedding_forward(w_VC.device(), ids_T, w_VC, y_TC);
  return record(y_TC, {.op = "embedding",
                       .inputs = {},
                       .saved = {ids_T},
                       .handles = {Handle(w_VC)},
                       .backward = [](Node& self, Grads& dys) -> Grads {
                         const Tensor ids_T = self.saved[0].get();
                         self.handles[0].accumulate([&](Tensor& dw_VC, WriteMode mode) {
                           embedding_backward(ids_T.device(), dys[0], ids_T, mode, dw_VC);
                         });
                         return {};
                       },
                       .rematerialize = nullptr});
}

}  // namespace ink
