#include "engine/nn/layers.h"

#include "engine/ops/embedding.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

Tensor attend(const Qkv& in, const AttentionSpec& spec, const StepContext& step) {
  const AttentionShape& s = spec.shape;
  if (step.cache == nullptr) return attention(in.q_TC, in.k_TC, in.v_TC, s, step.batch->documents);
  KvCacheView cache = step.cache->layer(spec.layer);
  Tensor out = empty_like(in.q_TC);
  kv_cache_append(out.device(), in.k_TC.detach(), in.v_TC.detach(), cache);
  attention_cached(out.device(), {in.q_TC.detach(), s.head_dim}, cache, out);
  return out;
}

}  // namespace

Tensor Linear::operator()(const Tensor& x_TI) const {
  return linear(x_TI, weight_.tensor, bias_ ? bias_->tensor : Tensor());
}

Tensor Embedding::operator()(const Tensor& ids_T) const { return embedding(ids_T, weight_.tensor); }

Normed Norm::operator()(const Residual& residual) const {
  return add_rms_norm(residual.x_TC, residual.delta_TC, weight_.tensor, eps_);
}

Tensor Attention::operator()(Tensor qkv_TC, const StepContext& step) const {
  const Qkv parts = rope_qkv(qkv_TC, step.rope_table_TD, spec_.shape.kv_heads);
  qkv_TC = {};  // its memory is free for what attention makes
  return attend(parts, spec_, step);
}

Tensor Attention::operator()(const Tensor& q_TC, const Tensor& k_TC, const Tensor& v_TC,
                             const StepContext& step) const {
  return attend({rope(q_TC, step.rope_table_TD), rope(k_TC, step.rope_table_TD), v_TC}, spec_,
                step);
}

LmLoss LmHead::loss(const Tensor& x_TC, const Batch& batch, const LmLossOptions& options) const {
  return lm_loss(x_TC, weight_.tensor, batch.labels_T, batch.loss_weight_T, options);
}

Tensor LmHead::logits(const Tensor& x_TC) const {
  const Tensor& weight = weight_.value();
  Tensor logits(x_TC.runtime(), {x_TC.rows(), weight.dim(0)},
                x_TC.dtype() == DType::kF64 ? DType::kF64 : DType::kF32);
  linear_forward(x_TC.device(), x_TC, weight, Tensor(), logits);
  return logits;
}

}  // namespace ink
