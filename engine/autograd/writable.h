// May a result be written over this tensor? Where nobody else holds its memory and it is one piece.
#pragma once

#include "engine/tensor/tensor.h"

namespace ink {

[[nodiscard]] inline bool writable(const Tensor& x) {
  return x.defined() && x.sole_owner() && x.contiguous();
}

}  // namespace ink
