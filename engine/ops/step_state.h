// The state of the optimizer's clock, in one small struct on the device.
//
// A kernel advances it from the gradient norm, so the host may read the loss a step late and still
// never advance a schedule on a skipped step; t, the 0-based update index, stands still on one.
// Warm-up: lr * (t + 1) / w for t < w. After it min + (lr - min) * f, where f is 1 for a constant,
// and of q = (t - w) / (T - w), or of q = (t - (T - D)) / D for wsd, which is 1 before:
//   linear: 1 - q
//   cosine: (1 + cos(pi q)) / 2
//   sqrt:   1 - sqrt(q)
#pragma once

#include <cmath>
#include <cstdint>

#include "engine/autograd/node.h"
#include "engine/core/philox.h"
#include "engine/kernels/kernel.h"

namespace ink {

enum class ScheduleShape : int32_t { kCosine, kLinear, kConstant, kWsd };
enum class DecayCurve : int32_t { kLinear, kCosine, kSqrt };

struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  DecayCurve decay_shape = DecayCurve::kLinear;
  double lr = 0, min_lr = 0;
  int64_t total = 0, warmup = 0, decay = 0;  // T, w, D in updates
};

INK_HOST_DEVICE inline double decay_factor(DecayCurve shape, double p) {
  if (shape == DecayCurve::kCosine) return 0.5 * (1.0 + std::cos(3.14159265358979323846 * p));
  return shape == DecayCurve::kSqrt ? 1.0 - std::sqrt(p) : 1.0 - p;
}

INK_HOST_DEVICE inline double learning_rate(const Schedule& s, int64_t t) {
  if (t < s.warmup) return s.lr * static_cast<double>(t + 1) / static_cast<double>(s.warmup);
  if (s.shape == ScheduleShape::kConstant) return s.lr;
  const int64_t start = s.shape == ScheduleShape::kWsd ? s.total - s.decay : s.warmup;
  const int64_t length = s.total - start;
  if (t <= start || length <= 0) return s.lr;
  const double q =
      t >= s.total ? 1.0 : static_cast<double>(t - start) / static_cast<double>(length);
  const DecayCurve shape = s.shape == ScheduleShape::kWsd      ? s.decay_shape
                           : s.shape == ScheduleShape::kCosine ? DecayCurve::kCosine
                                                               : DecayCurve::kLinear;
  return s.min_lr + (s.lr - s.min_lr) * decay_factor(shape, q);
}

// kOwn: every non-finite norm is an overflow, and a back-off restores the hysteresis. kInternEvo: a
// norm that is not a number counts as clean, and only growth restores the hysteresis.
enum class ScalerRule : int32_t { kOwn, kInternEvo };

// Dynamic loss scale of fp16: back-off and growth as InternEvo has them (x2 after `growth_interval`
// clean steps, x0.5 on overflow once the hysteresis is used up). enabled = false keeps the scale
// at 1.
struct LossScaleOptions {
  bool enabled = false;
  ScalerRule rule = ScalerRule::kOwn;
  double initial = 65536.0, growth = 2.0, backoff = 0.5, minimum = 1.0, maximum = 16777216.0;
  int64_t growth_interval = 1000, hysteresis = 2;
};

struct StepOptions {
  Schedule schedule;
  LossScaleOptions loss_scale;
  double beta1 = 0.9, beta2 = 0.95,
         beta2_decay = 0;  // beta2_decay c > 0: beta2 = max(beta2, 1 - (t + 1)^-c)
  double clip_norm = 1.0;  // 0 = no clipping
  bool veto = false;       // of this step: no update, whatever the norm
  // No norm: the squares are not looked at, every step is made, and gradients are taken as they
  // are, with the loss scale in them.
  bool unchecked = false;
};

// The global batch being worked on. The host writes it before the first micro-batch.
struct GlobalBatch {
  double divisor = 1.0;  // its trained tokens
  int64_t step = 0;      // its 0-based number, the key of randomness; skipped ones count
};

struct StepState {
  int64_t updates = 0;  // successful updates so far
  int64_t skipped = 0;  // steps skipped for a non-finite norm
  int64_t skipped_in_a_row = 0;
  int64_t clean_steps = 0, hysteresis_left = 2;
  double loss_scale = 1.0;
  double lr = 0;             // of the update now being made
  double grad_norm = 0;      // before clipping, unscaled
  double grad_factor = 1.0;  // gradients are multiplied by it: clip and unscale in one
  double beta2 = 0.95, bias1 = 1, bias2 = 1;  // bias_i = 1 - beta_i^updates-after
  int32_t skip = 0;                           // 1: the update must not be made
  GlobalBatch batch;
};
static_assert(sizeof(StepState) % 8 == 0);

// The tensor that kernels take: u8, one StepState.
[[nodiscard]] inline Tensor step_state_tensor(Runtime& runtime, const StepState& state) {
  return to_tensor(runtime,
                   std::span<const uint8_t>(reinterpret_cast<const uint8_t*>(&state), sizeof state),
                   {static_cast<int64_t>(sizeof state)});
}
// Waits for the device.
[[nodiscard]] inline StepState read_step_state(const Tensor& tensor) {
  StepState state;
  CHECK(tensor.bytes() == static_cast<int64_t>(sizeof state), "{} bytes are no StepState",
        tensor.bytes());
  tensor.runtime().backend().copy_to_host(&state, tensor.raw(), tensor.bytes());
  return state;
}

// Decides the step: norm = sqrt(sum_squares) / loss_scale; not finite: skip, back off; veto: skip;
// else lr, clip factor, bias corrections and updates + 1. Clip factor (reference): c = (norm +
// 1e-6) / clip_norm, gradients / c if c > 1. sum_squares: f64, one number, or two for a parameter
// group that is clipped alone: that of all parameters, which decides whether the step is made, and
// that of the group, whose norm it is. state: u8 tensor that holds one StepState.
DECLARE_KERNEL(advance_step,
               void(const Tensor& sum_squares, const StepOptions& options, Tensor& state));

// sum_squares = (mode) sum of x^2 over the elements, accumulated in f64. Non-finite elements make
// it non-finite.
DECLARE_KERNEL(sum_squares, void(const Tensor& x, WriteMode mode, Tensor& sum));
// The same of every tensor, each_N, and over all of them, in as few launches as the device needs.
DECLARE_KERNEL(sum_squares_many,
               void(std::span<const Tensor> tensors, Tensor& each_N, Tensor& sum));

}  // namespace ink
