// `train.compat`: rules of InternEvo in the place of our own, for runs that must continue or repeat
// one of its runs. Written as the word `internevo`, which turns all of them on, or as a map of
// switches. What each rule is stands where it is applied; docs/compat.md has both sides.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "configs/schema/field.h"

namespace ink {

struct Compat {
  bool loss_mean = false, clip_per_group = false, decay_all = false, bf16_loss_scale = false,
       scaler = false, clip_zero = false, init = false, sampler = false, log_line = false;

  template <class V>
  void fields(V& v) {
    v.field("loss_mean", loss_mean,
            "loss = mean over the trained tokens of a micro-batch, then over micro-batches and "
            "ranks; without trained token the step is not finite");
    v.field("clip_per_group", clip_per_group,
            "a gradient norm and a clip factor of its own for every parameter group");
    v.field("decay_all", decay_all, "weight decay on norms and biases too");
    v.field("bf16_loss_scale", bf16_loss_scale, "dynamic loss scale in bf16, as in fp16");
    v.field("scaler", scaler,
            "loss scale: a step with NaN counts as clean; after two overflows every further one "
            "halves the scale until it has grown");
    v.field("clip_zero", clip_zero,
            "with optim.clip_norm 0 there is no norm, no check for non-finite gradients and no "
            "division by the loss scale");
    v.field("init", init, "half-width of model.init: uniform is sqrt(3 * std)");
    v.field("sampler", sampler,
            "order of packs by NumPy's RandomState(train.seed).shuffle; the short last pack and "
            "what does not fill a global batch are left out of every epoch");
    v.field("log_line", log_line, "InternEvo's log line, at every step");
  }
  // What the word stands for.
  static constexpr std::string_view kWord = "internevo";
  void word_form() {
    loss_mean = clip_per_group = decay_all = bf16_loss_scale = scaler = clip_zero = init = sampler =
        log_line = true;
  }
  friend bool operator==(const Compat&, const Compat&) = default;
};

// Names of the switches that are on, in the order of the field list.
[[nodiscard]] std::vector<std::string> switches_of(const Compat& compat);

}  // namespace ink
