#include "engine/nn/layers.h"

#include "engine/ops/embedding.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

HeadsView fused_view(const Tensor& qkv_TC, const AttentionShape& shape, int64_t heads,
                     int64_t first) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t per_group = heads / shape.kv_heads;
  return {qkv_TC.detach(), heads, shape.head_dim, first, per_group, (group + 2) * shape.head_dim};
}

HeadsView plain_view(const Tensor& x_TC, int64_t heads, int64_t head_dim) {
  return {x_TC.detach(), heads, head_dim, 0, 1, head_dim};
}

Tensor attend_cached(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                     KvCacheView cache) {
  Tensor out(q.x_TC.runtime(), {q.x_TC.rows(), q.heads * q.head_dim}, q.x_TC.dtype());
  kv_cache_append(out.device(), k, v, cache);
  attention_cached(out.device(), q, cache, out);
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

Tensor Attention::operator()(const Tensor& qkv_TC, const StepContext& step) const {
  const AttentionShape& s = spec_.shape;
  const int64_t group = s.heads / s.kv_heads;
  const Tensor rotated = rope(qkv_TC, step.rope_table_TD,
                              {.groups = s.kv_heads,
                               .group_heads = group + 2,
                               .rotated = group + 1,
                               .head_dim = s.head_dim});
  if (step.cache == nullptr) return attention_qkv(rotated, s, step.batch->documents);
  return attend_cached(
      fused_view(rotated, s, s.heads, 0), fused_view(rotated, s, s.kv_heads, group * s.head_dim),
      fused_view(rotated, s, s.kv_heads, (group + 1) * s.head_dim), step.cache->layer(spec_.layer));
}

Tensor Attention::operator()(const Tensor& q_TC, const Tensor& k_TC, const Tensor& v_TC,
                             const StepContext& step) const {
  const AttentionShape& s = spec_.shape;
  const Tensor q = rope(q_TC, step.rope_table_TD, {.groups = s.heads, .head_dim = s.head_dim});
  const Tensor k = rope(k_TC, step.rope_table_TD, {.groups = s.kv_heads, .head_dim = s.head_dim});
  if (step.cache == nullptr) return attention(q, k, v_TC, s, step.batch->documents);
  return attend_cached(plain_view(q, s.heads, s.head_dim), plain_view(k, s.kv_heads, s.head_dim),
                       plain_view(v_TC, s.kv_heads, s.head_dim), step.cache->layer(spec_.layer));
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
