// One evaluation of an op row: tensors from f64 vectors, forward, backward, back to f64 vectors.
#pragma once

#include <vector>

#include "tests/support/op_case.h"

namespace ink {

// How a row is run once.
struct OpRun {
  DType dtype = DType::kF64;
  bool backward = true;
  bool strided = false;
  bool consumer = false;  // the outputs feed an op that keeps them, so that recompute shows
  Recompute recompute = Recompute::kNone;
  Runtime* card = nullptr;  // none: on the processor, in a runtime of its own
};

struct OpResult {
  std::vector<Values> outputs;
  std::vector<Values> gradients;  // per input; empty where none is wanted
};

[[nodiscard]] bool wants_gradient(const OpCase& row, size_t input);
[[nodiscard]] DType input_dtype(const OpInput& input, DType row_dtype);
[[nodiscard]] std::vector<Shape> input_shapes(const OpCase& row);
[[nodiscard]] std::vector<Shape> empty_shapes(const OpCase& row);
// The row's data in these shapes, rounded to what `dtype` holds.
[[nodiscard]] std::vector<Values> input_values(const OpCase& row, const std::vector<Shape>& shapes,
                                               DType dtype);
[[nodiscard]] size_t differentiable_outputs(const OpCase& row, size_t outputs);
// The incoming gradient of output number `output`, rounded to bf16 so that every dtype holds it.
[[nodiscard]] Values seed_values(const OpCase& row, size_t output, size_t count);

[[nodiscard]] OpResult run_case(const OpCase& row, const std::vector<Values>& inputs,
                                const std::vector<Shape>& shapes, const OpRun& how);

}  // namespace ink
