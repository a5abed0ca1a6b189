// The head and the cross-entropy in one: full logits never exist. logits = x * W^T in f32; of every
// trained token t (label >= 0), with s = label smoothing and z = z-loss weight:
//
//   token_loss_t = (1 - s) * (lse - logit[label]) + s * (lse - mean logit) + z * lse^2
//   loss += token_loss_t * weight_t / divisor
//
// The rows are worked on in chunks (lm_loss_chunk.h): logits, loss and both gradients of a chunk,
// on a card of a few chunks, are made together (the logits are computed once), so backward only
// hands out dx. The result must therefore be a root of backward, seeded with 1. A gradient of w in
// bf16 is added up in an f32 buffer of its shape and rounded once, or made by a single product.
#pragma once

#include "engine/autograd/node.h"
#include "engine/kernels/kernel.h"
#include "engine/ops/step_state.h"

namespace ink {

struct LmLossOptions {
  double divisor = 1.0;  // trained tokens of the whole global batch
  // One StepState on the device of x, or undefined. Kernels take the divisor from its batch.divisor
  // and multiply gradients (never the returned loss) by its loss_scale: both change from step to
  // step under a captured graph, and the host need not wait to know them.
  Tensor step_state = {};
  double label_smoothing = 0.0;
  double z_loss = 0.0;
  int64_t chunk_bytes = 0;  // size of one chunk of logits; 0: loss_chunk_bytes of the device
};

// Enough rows that the product which makes them is bound by arithmetic, for it reads the whole
// weight: about 500 of 32000 logits on the CPU, 512 of 92544 on a card.
[[nodiscard]] constexpr int64_t loss_chunk_bytes(Device device) {
  return int64_t{device == Device::kCuda ? 190 : 64} << 20;
}

struct LmLoss {
  Tensor loss;          // scalar, f32 (f64 for f64), already divided
  Tensor token_loss_T;  // f32 (f64): the formula above (cross-entropy when s = z = 0), before
                        // weights and divisor, 0 where not trained
  Tensor correct_T;     // i32: 1 where the arg max is the label
};

// labels_T i32, -100 = not trained; weight_T f32 or undefined (1).
[[nodiscard]] LmLoss lm_loss(const Tensor& x_TC, const Tensor& w_VC, const Tensor& labels_T,
                             const Tensor& weight_T, const LmLossOptions& options);

// One chunk. logits_RV is f32 (f64); dlogits_RV may be undefined (no gradient), may be the memory
// of logits when the dtypes agree, and is zero where the label is -100.
DECLARE_KERNEL(cross_entropy,
               void(const Tensor& labels_R, const Tensor& weight_R, const LmLossOptions& options,
                    Tensor& logits_RV, Tensor& dlogits_RV, Tensor& loss_R, Tensor& correct_R));

// loss = sum of weight_t * token_loss_t / divisor, summed in f64 in the order of tokens.
DECLARE_KERNEL(weighted_mean, void(const Tensor& token_loss_T, const Tensor& weight_T,
                                   const LmLossOptions& options, Tensor& loss));

}  // namespace ink
