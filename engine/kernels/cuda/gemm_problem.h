// The three products of a linear layer as one form, C(m, n) = sum over k of A(m, k) * B(n, k), and
// the text that names a problem to the table of algorithms.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "engine/autograd/node.h"
#include "engine/tensor/tensor.h"

namespace ink {

// Where the summed index runs: along the rows of the stored matrix, or down its columns.
enum class Depth : uint8_t { kAlongRows, kDownColumns };

// What an algorithm is chosen by: everything but the pointers themselves. Strides are elements,
// alignments bytes.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;
  Depth a_depth = Depth::kAlongRows, b_depth = Depth::kAlongRows;
  DType in = DType::kF32, out = DType::kF32;
  bool bias = false;
  int a_alignment = 0, b_alignment = 0, c_alignment = 0, bias_alignment = 0;

  auto operator<=>(const GemmShape&) const = default;
  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
  [[nodiscard]] int64_t result_bytes() const { return ((m - 1) * c_stride + n) * size_of(out); }
  [[nodiscard]] std::string text() const;
};

struct GemmProblem {
  GemmShape shape;
  const void *a = nullptr, *b = nullptr, *bias = nullptr;  // bias has n elements of c's dtype
  void* c = nullptr;
  WriteMode mode = WriteMode::kOverwrite;
};

// Shapes: x_TI, w_OI, y_TO.
[[nodiscard]] GemmProblem forward_problem(const Tensor& x_TI, const Tensor& w_OI,
                                          const Tensor& bias_O, const Tensor& y_TO);
[[nodiscard]] GemmProblem input_problem(const Tensor& dy_TO, const Tensor& w_OI, WriteMode mode,
                                        const Tensor& dx_TI);
[[nodiscard]] GemmProblem weight_problem(const Tensor& dy_TO, const Tensor& x_TI, WriteMode mode,
                                         const Tensor& dw_OI);

}  // namespace ink
