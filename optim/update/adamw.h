// AdamW over a parameter table: global norm, clip, skip, update, all decided on the device.
//
// Keeps two moments per parameter and, where the compute type has 16 bits and the states are f32,
// an f32 master copy. With 16-bit states there is no master: results are rounded stochastically.
// Parameters in f16 always have a master, and turn the dynamic loss scale on.
// step() reads the gradients that backward left, already summed over the data-parallel ranks, so
// every rank makes the same decision. Nothing but state() waits for the device. The formula is in
// engine/ops/adamw.h. With train.compat.clip_per_group every group of parameters is clipped by its
// own norm (optim/policy/norm_group.h); whether the step is made is still decided for all at once.
#pragma once

#include <span>
#include <vector>

#include "configs/schema/optim_options.h"
#include "engine/nn/parameter.h"
#include "engine/ops/adamw.h"
#include "optim/policy/norm_group.h"

namespace ink {

// One parameter and its state, as the checkpoint sees it. master is undefined where the parameter
// itself is f32.
struct OptimizerSlot {
  Parameter* parameter = nullptr;
  AdamWOptions options;
  Tensor master, m, v;
};

// kNone: the step is counted as skipped, whatever its gradients.
enum class Update : uint8_t { kIfFinite, kNone };

class AdamW {
 public:
  // The table must be materialized. seed: of stochastic rounding.
  AdamW(Runtime& runtime, const ParameterTable& table, const OptimSection& optim,
        int64_t total_steps, uint64_t seed, const Compat& compat = {});

  // Masters from exact initial values, which their parameters then round, or from the parameters
  // (after a weight import).
  void initialize_masters(uint64_t seed);
  // Has every parameter a master? Then initialize_masters() leaves nothing else to initialise.
  [[nodiscard]] bool all_mastered() const { return all_mastered_; }
  void copy_masters_from_parameters();

  // Tells the kernels of the coming micro-batches which global batch they work on; state_tensor()
  // is where they read it.
  void begin(const GlobalBatch& batch);
  // One update from the present gradients, which it then forgets. Parameters and moments keep their
  // bits when the norm is not finite, or with kNone.
  void step(Update update = Update::kIfFinite);

  [[nodiscard]] StepState state() const;  // waits for the device
  [[nodiscard]] const Tensor& state_tensor() const { return state_; }
  void set_state(StepState state);
  [[nodiscard]] std::span<OptimizerSlot> slots() { return slots_; }
  // f64, one per slot: sum of squares of the gradient that the last step saw; 0 where it did not
  // look.
  [[nodiscard]] const Tensor& squares() const { return squares_; }
  // Does a step look at the norm (not with train.compat.clip_zero and no clipping)?
  [[nodiscard]] bool looks_at_norm() const { return !options_.unchecked; }
  // Their members are indices of slots. Empty where one norm is taken over all.
  [[nodiscard]] std::span<const NormGroup> norm_groups() const { return groups_; }
  // Name of the first parameter whose sum is not finite, empty when there is none.
  [[nodiscard]] std::string first_nonfinite(std::span<const double> squares) const;

 private:
  [[nodiscard]] AdamWItem item_of(const OptimizerSlot& slot);
  void update_group(const NormGroup& group, std::span<const Tensor> gradients,
                    std::span<const AdamWItem> items, const StepOptions& options);

  Runtime& runtime_;
  StepOptions options_;
  std::vector<OptimizerSlot> slots_;
  std::vector<NormGroup> groups_;
  Tensor state_, norm_, squares_;
  bool all_mastered_ = true;
};

}  // namespace ink
