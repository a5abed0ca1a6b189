// Named tensors on their way between a model and a file, and the conversion of their elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/nn/parameter.h"
#include "engine/tensor/tensor.h"

namespace ink {

// Lines for the log, one each.
using Notices = std::vector<std::string>;

// A parameter under our name; contiguous, any float dtype, on any device.
struct NamedTensor {
  std::string name;
  Tensor value;
};

// The values of a model that this rank holds whole; tied parameters have none of their own.
[[nodiscard]] std::vector<NamedTensor> weights_of(const ParameterTable& table);

// `count` elements from one float dtype to another, rounded to nearest even; equal dtypes are
// copied.
void convert_elements(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count);

struct ValueStats {
  int64_t nonfinite = 0;
  double max_abs = 0;  // over the finite ones

  void merge(const ValueStats& other);
};
[[nodiscard]] ValueStats value_stats(const void* values, DType dtype, int64_t count);

// Row width in elements: rows are those of the first dimension.
[[nodiscard]] inline int64_t row_width(const Shape& shape) {
  return shape.rank() == 0 || shape.dim(0) == 0 ? 1 : shape.numel() / shape.dim(0);
}

}  // namespace ink
