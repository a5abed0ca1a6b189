// The second stage of a norm weight's gradient: dw = (or +=) the partial sums of runs of rows, in
// f64 and in their order. partial is f32 [runs, C].
#pragma once

#include "engine/autograd/node.h"

namespace ink {

void add_norm_runs(const Tensor& partial, WriteMode mode, Tensor& dw_C);

}  // namespace ink
