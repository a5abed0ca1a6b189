// Calls f.operator()<T>() with the float type of a device tensor: f32, bf16 or f16. There is no f64
// on the card.
#pragma once

#include "engine/core/dtype.h"

namespace ink {

template <class F>
decltype(auto) visit_device_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f.template operator()<float>();
    case DType::kBF16:
      return f.template operator()<bf16>();
    case DType::kF16:
      return f.template operator()<f16>();
    default:
      throw InternalError(fmt::format("no CUDA kernel takes {}", name_of(dtype)));
  }
}

}  // namespace ink
