#include "models/common/mlp.h"

#include "engine/ops/swiglu.h"

namespace ink {

Mlp::Mlp(Builder& builder, const ModelOptions& o, float init_std, float down_std)
    : w1_(builder.linear("feed_forward.w1", o.hidden_size, o.intermediate_size,
                         {.split = LinearSplit::kOut, .bias = o.mlp_bias, .init_std = init_std})),
      w3_(builder.linear("feed_forward.w3", o.hidden_size, o.intermediate_size,
                         {.split = LinearSplit::kOut, .bias = o.mlp_bias, .init_std = init_std})),
      w2_(builder.linear("feed_forward.w2", o.intermediate_size, o.hidden_size,
                         {.split = LinearSplit::kIn, .bias = o.mlp_bias, .init_std = down_std})) {}

Tensor Mlp::operator()(const Tensor& x_TC) const {
  return (*w2_)(swiglu((*w1_)(x_TC), (*w3_)(x_TC)));
}

}  // namespace ink
