// One micro-batch on the device: a packed stream of T tokens. A padded [B, S] batch is the case of
// equal lengths.
//
// labels are already shifted (labels[t] is the target of position t, -100 = not trained). token_id
// is the token's index in the global batch, the key of counter-based randomness. The divisor is the
// number of trained tokens of the whole global batch (all data-parallel ranks, all micro-batches),
// known before the first backward.
#pragma once

#include <map>
#include <string>

#include "engine/ops/attention.h"
#include "engine/tensor/tensor.h"

namespace ink {

struct Batch {
  Tensor tokens_T, labels_T;  // i32
  Tensor loss_weight_T;       // f32, undefined = 1 everywhere
  Tensor positions_T;         // i32
  Tensor token_id_T;          // i64
  Tensor document_T;          // i32, undefined where nobody asks for it
  Documents documents;        // global cu_seqlens
  double divisor = 1.0;
  int64_t trained = 0;  // labels >= 0 in this micro-batch
  int64_t tokens = 0;   // without padding
  int64_t step = 0;     // 0-based number of the global batch, for randomness
  // Optional: one StepState, in which kernels read divisor and step (engine/ops/step_state.h).
  Tensor step_state;
  std::map<std::string, Tensor> extras;
};

}  // namespace ink
