// The tokens of a batch in the order of their ids, on the card: what a gradient needs that adds
// rows by id in a fixed order.
#pragma once

#include "engine/tensor/tensor.h"

namespace ink {

// Both i32 [T]; workspace of the runtime of the ids.
struct TokenOrder {
  Tensor ids_T;        // ascending
  Tensor positions_T;  // of those ids in the batch; ascending where ids are equal
};

// A stable radix sort, two passes for up to 2^18 ids; nothing waits. ids_T: i32, in [0, count).
[[nodiscard]] TokenOrder order_tokens(const Tensor& ids_T, int64_t count);

}  // namespace ink
