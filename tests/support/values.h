// Test data as f64 vectors, and the way between them and tensors of any dtype.
#pragma once

#include <string_view>
#include <vector>

#include "engine/tensor/tensor.h"

namespace ink {

using Values = std::vector<double>;

// Element by element, row by row; strided tensors too.
[[nodiscard]] Values to_values(const Tensor& tensor);
// Rounds to the dtype.
[[nodiscard]] Tensor from_values(Runtime& runtime, const Values& values, const Shape& shape,
                                 DType dtype);
// The same values in the columns [3, 3 + C) of a wider tensor whose other elements are NaN.
[[nodiscard]] Tensor strided_from_values(Runtime& runtime, const Values& values, const Shape& shape,
                                         DType dtype);
// What the values become in this dtype.
[[nodiscard]] Values rounded(const Values& values, DType dtype);

// The same numbers on every machine: keyed by the label.
[[nodiscard]] Values uniform_values(std::string_view label, int64_t count, double low, double high);
[[nodiscard]] Values normal_values(std::string_view label, int64_t count);

}  // namespace ink
