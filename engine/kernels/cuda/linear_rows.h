// What a linear layer needs beside its products, as kernels of their own.
#pragma once

#include "engine/tensor/tensor.h"

namespace ink {

// Every row of y becomes the bias, or zero where that is undefined: the product of no columns.
void fill_rows(const Tensor& bias_O, Tensor& y_TO);
// The bias in the result's dtype and on 16 bytes, as the fused epilogue wants it.
[[nodiscard]] Tensor copied_bias(const Tensor& bias_O, DType dtype);

}  // namespace ink
