// A tensor as a kernel sees it: rows of contiguous elements, a stride apart.
#pragma once

#include <cstdint>
#include <type_traits>

#include "engine/core/host_device.h"
#include "engine/tensor/tensor.h"

namespace ink {

template <class T>
struct Matrix {
  T* data = nullptr;
  int64_t stride = 0;
  INK_HOST_DEVICE T* row(int64_t r) const { return data + r * stride; }
};

// Undefined tensors give null.
template <class T>
[[nodiscard]] Matrix<T> matrix(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.data<std::remove_const_t<T>>(), tensor.row_stride()};
}

// Every row begins on 16 bytes.
[[nodiscard]] inline bool rows_on_16_bytes(const Tensor& tensor, int64_t rows) {
  if (!tensor.defined()) return true;
  return reinterpret_cast<uintptr_t>(tensor.raw()) % 16 == 0 &&
         (rows <= 1 || tensor.row_stride() * size_of(tensor.dtype()) % 16 == 0);
}

}  // namespace ink
