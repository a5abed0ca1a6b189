// The gated MLP: w2(silu(w1 x) * w3 x). w1 gate, w3 up, w2 down.
#pragma once

#include <memory>

#include "configs/schema/model_options.h"
#include "engine/nn/builder.h"

namespace ink {

class Mlp {
 public:
  // down_std: standard deviation of w2, the others start at init_std.
  Mlp(Builder& builder, const ModelOptions& options, float init_std, float down_std);
  [[nodiscard]] Tensor operator()(const Tensor& x_TC) const;

 private:
  std::unique_ptr<Linear> w1_, w3_, w2_;
};

}  // namespace ink
