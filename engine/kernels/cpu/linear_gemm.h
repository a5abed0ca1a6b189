// The three products of a linear layer as GEMM problems. Shapes: x_TI, w_OI, y_TO.
#pragma once

#include "engine/kernels/cpu/gemm.h"
#include "engine/ops/linear.h"

namespace ink {

// An operand whose depth is the tensor's last dimension, or its first.
[[nodiscard]] inline GemmOperand along_row(const Tensor& x) {
  return {x.raw(), x.dtype(), x.row_stride(), 1};
}
[[nodiscard]] inline GemmOperand along_column(const Tensor& x) {
  return {x.raw(), x.dtype(), 1, x.row_stride()};
}

[[nodiscard]] inline Gemm forward_gemm(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O,
                                       Tensor& y_TO) {
  return {.m = x_TI.rows(),
          .n = w_OI.rows(),
          .k = x_TI.cols(),
          .a = along_row(x_TI),
          .b = along_row(w_OI),
          .c = {.data = y_TO.raw(),
                .dtype = y_TO.dtype(),
                .row_stride = y_TO.row_stride(),
                .bias = bias_O.raw(),
                .bias_dtype = bias_O.dtype()}};
}

[[nodiscard]] inline Gemm input_gemm(const Tensor& dy_TO, const Tensor& w_OI, WriteMode mode,
                                     Tensor& dx_TI) {
  return {.m = dy_TO.rows(),
          .n = w_OI.cols(),
          .k = dy_TO.cols(),
          .a = along_row(dy_TO),
          .b = along_column(w_OI),
          .c = {.data = dx_TI.raw(),
                .dtype = dx_TI.dtype(),
                .row_stride = dx_TI.row_stride(),
                .mode = mode}};
}

[[nodiscard]] inline Gemm weight_gemm(const Tensor& dy_TO, const Tensor& x_TI, WriteMode mode,
                                      Tensor& dw_OI) {
  return {.m = dy_TO.cols(),
          .n = x_TI.cols(),
          .k = dy_TO.rows(),
          .a = along_column(dy_TO),
          .b = along_column(x_TI),
          .c = {.data = dw_OI.raw(),
                .dtype = dw_OI.dtype(),
                .row_stride = dw_OI.row_stride(),
                .mode = mode}};
}

}  // namespace ink
