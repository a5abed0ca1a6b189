// Element-wise reduction of host memory, in a fixed order: into = into (op) from.
#pragma once

#include "engine/tensor/tensor.h"
#include "parallel/comm/process_group.h"

namespace ink {

// f32, f64, i32, i64, and bf16, where every addition is rounded to nearest; InternalError names any
// other type.
void reduce_elements(DType dtype, ReduceOp op, const void* from, void* into, int64_t count);

}  // namespace ink
