#include "launch/trainer/nan_gradient.h"

namespace ink {

void write_nan_gradient(const ParameterTable& table) {
  Leaf& leaf = *table.all().front()->leaf();
  if (!leaf.grad.defined())
    leaf.grad =
        Tensor(leaf.value.runtime(), leaf.value.shape(), leaf.grad_dtype, MemoryTag::kGradients);
  if (!leaf.has_grad) zero(leaf.grad);
  leaf.has_grad = true;
  const uint64_t nan = ~uint64_t{0};  // in every type
  leaf.grad.runtime().backend().copy_from_host(leaf.grad.raw(), &nan, size_of(leaf.grad_dtype));
}

}  // namespace ink
