// A tensor as a kernel sees it: rows of contiguous elements, a stride apart. And the launch of a
// kernel that does the same to every element.
#pragma once

#include <cstdint>
#include <type_traits>

#include "engine/core/host_device.h"
#include "engine/kernels/cuda/launch.h"
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

// Rows and columns of an element-wise kernel: contiguous operands are one long row.
struct ElementwiseShape {
  int64_t rows = 0, cols = 0;
  bool packed = false;  // every row of every operand may be read 16 bytes at a time
};

[[nodiscard]] inline bool rows_on_16_bytes(const Tensor& tensor, int64_t rows) {
  if (!tensor.defined()) return true;
  return reinterpret_cast<uintptr_t>(tensor.raw()) % 16 == 0 &&
         (rows <= 1 || tensor.row_stride() * size_of(tensor.dtype()) % 16 == 0);
}

// elements: per 16-byte access, of the narrowest dtype among the operands.
template <class... Tensors>
[[nodiscard]] ElementwiseShape elementwise_shape(int64_t elements, const Tensor& first,
                                                 const Tensors&... others) {
  const bool contiguous = (first.contiguous() && ... && (!others.defined() || others.contiguous()));
  ElementwiseShape shape{first.rows(), first.cols()};
  if (contiguous) shape = {shape.rows > 0 ? 1 : 0, first.numel()};
  shape.packed = shape.cols % elements == 0 && (rows_on_16_bytes(first, shape.rows) && ... &&
                                                rows_on_16_bytes(others, shape.rows));
  return shape;
}

inline constexpr int kElementwiseThreads = 256;

// One thread per access where the card has room for it; kernels loop in steps of the grid, not
// unrolled: that would begin with a 64-bit division, for one turn of the loop.
[[nodiscard]] inline LaunchShape elementwise_launch(const ElementwiseShape& shape,
                                                    int64_t elements_per_thread) {
  if (shape.rows == 0 || shape.cols == 0) return {.grid = dim3(0, 1, 1), .block = dim3(1, 1, 1)};
  const int64_t most_rows = 65535;
  const int64_t columns =
      blocks_for(shape.cols, elements_per_thread * int64_t{kElementwiseThreads});
  return {.grid = dim3(static_cast<unsigned>(columns),
                       static_cast<unsigned>(shape.rows < most_rows ? shape.rows : most_rows), 1),
          .block = dim3(kElementwiseThreads, 1, 1)};
}

}  // namespace ink
