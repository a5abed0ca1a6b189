// Self-attention of a decoder block: projections, rotation, attention, output projection.
//
// InternLM2 keeps q, k and v in one matrix, grouped per kv head; the other families have three.
#pragma once

#include <memory>

#include "configs/schema/model_options.h"
#include "engine/nn/builder.h"

namespace ink {

class SelfAttention {
 public:
  // out_std: standard deviation of wo, the others start at init_std. layer: index of the block on
  // this rank's cache.
  SelfAttention(Builder& builder, const ModelOptions& options, int64_t layer, float init_std,
                float out_std);
  [[nodiscard]] Tensor operator()(const Tensor& x_TC, const StepContext& step) const;

 private:
  std::unique_ptr<Linear> wqkv_;          // fused, or
  std::unique_ptr<Linear> wq_, wk_, wv_;  // separate
  std::unique_ptr<Linear> wo_;
  std::unique_ptr<Attention> attend_;
};

}  // namespace ink
