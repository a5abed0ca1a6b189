// Kernels that do the same to every element: the shape they see, their launch, and the loop over
// the elements of a thread.
#pragma once

#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/matrix.h"

namespace ink {

// Contiguous operands are one long row.
struct ElementwiseShape {
  int64_t rows = 0, cols = 0;
  bool packed = false;  // every row of every operand may be read 16 bytes at a time
};

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

// A thread for every access of a row, and a block for every row as far as a grid is high.
[[nodiscard]] inline LaunchShape elementwise_launch(const ElementwiseShape& shape,
                                                    int64_t elements_per_thread) {
  if (shape.rows == 0 || shape.cols == 0) return {.grid = dim3(0, 1, 1), .block = dim3(1, 1, 1)};
  const int64_t max_rows = 65535;
  const int64_t columns =
      blocks_for(shape.cols, elements_per_thread * int64_t{kElementwiseThreads});
  return {.grid = dim3(static_cast<unsigned>(columns),
                       static_cast<unsigned>(shape.rows < max_rows ? shape.rows : max_rows), 1),
          .block = dim3(kElementwiseThreads, 1, 1)};
}

// f(r, c) for every row r of this thread; its access begins at column c and has N elements. Not
// unrolled: that would begin with a division, for one turn of the loop.
template <int N, class F>
__device__ __forceinline__ void for_elements(int64_t rows, int64_t cols, F f) {
  const int64_t c = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
  if (c >= cols) return;
#pragma unroll 1
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) f(r, c);
}

}  // namespace ink
