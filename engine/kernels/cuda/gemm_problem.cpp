#include "engine/kernels/cuda/gemm_problem.h"

#include <algorithm>

namespace ink {
namespace {

// Kernels need at most 16 bytes; what the allocator hands out has 256, which some tell apart.
int alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (pointer == nullptr) return 0;
  if (address % 256 == 0) return 256;
  int bytes = 16;
  while (address % static_cast<uintptr_t>(bytes) != 0) bytes /= 2;
  return bytes;
}

// A single row has no second one that its stride could lead to.
int64_t stride_of(const Tensor& x) {
  return x.rows() > 1 ? x.row_stride() : std::max<int64_t>(x.cols(), 1);
}

GemmProblem problem(const Tensor& a, Depth a_depth, const Tensor& b, Depth b_depth,
                    const Tensor& bias, WriteMode mode, const Tensor& c) {
  const bool rows = a_depth == Depth::kAlongRows;
  return {.shape = {.m = c.rows(),
                    .n = c.cols(),
                    .k = rows ? a.cols() : a.rows(),
                    .a_stride = stride_of(a),
                    .b_stride = stride_of(b),
                    .c_stride = stride_of(c),
                    .a_depth = a_depth,
                    .b_depth = b_depth,
                    .in = a.dtype(),
                    .out = c.dtype(),
                    .bias = bias.defined(),
                    .a_alignment = alignment_of(a.raw()),
                    .b_alignment = alignment_of(b.raw()),
                    .c_alignment = alignment_of(c.raw()),
                    .bias_alignment = alignment_of(bias.raw())},
          .a = a.raw(),
          .b = b.raw(),
          .bias = bias.raw(),
          .c = c.raw(),
          .mode = mode};
}

}  // namespace

std::string GemmShape::text() const {
  const auto side = [](Depth depth) { return depth == Depth::kAlongRows ? 'r' : 'c'; };
  return fmt::format("{}->{}{} m{} n{} k{} a{}{} b{}{} c{} align {},{},{},{}", name_of(in),
                     name_of(out), bias ? "+bias" : "", m, n, k, side(a_depth), a_stride,
                     side(b_depth), b_stride, c_stride, a_alignment, b_alignment, c_alignment,
                     bias_alignment);
}

GemmProblem forward_problem(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O,
                            const Tensor& y_TO) {
  return problem(x_TI, Depth::kAlongRows, w_OI, Depth::kAlongRows, bias_O, WriteMode::kOverwrite,
                 y_TO);
}

GemmProblem input_problem(const Tensor& dy_TO, const Tensor& w_OI, WriteMode mode,
                          const Tensor& dx_TI) {
  return problem(dy_TO, Depth::kAlongRows, w_OI, Depth::kDownColumns, {}, mode, dx_TI);
}

GemmProblem weight_problem(const Tensor& dy_TO, const Tensor& x_TI, WriteMode mode,
                           const Tensor& dw_OI) {
  return problem(dy_TO, Depth::kDownColumns, x_TI, Depth::kDownColumns, {}, mode, dw_OI);
}

}  // namespace ink
