#include "models/common/attention_block.h"

namespace ink {

SelfAttention::SelfAttention(Builder& builder, const ModelOptions& o, int64_t layer, float init_std,
                             float out_std) {
  const int64_t d = o.head_dim, q = o.num_attention_heads * d, kv = o.num_key_value_heads * d;
  const int64_t group = o.num_attention_heads / o.num_key_value_heads;
  if (o.family == Family::kInternLM2) {
    wqkv_ = builder.linear("attention.wqkv", o.hidden_size, q + 2 * kv,
                           {.split = LinearSplit::kOut,
                            .unit = (group + 2) * d,
                            .bias = o.qkv_bias,
                            .init_std = init_std});
  } else {
    const LinearSpec spec{
        .split = LinearSplit::kOut, .unit = d, .bias = o.qkv_bias, .init_std = init_std};
    wq_ = builder.linear("attention.wq", o.hidden_size, q, spec);
    wk_ = builder.linear("attention.wk", o.hidden_size, kv, spec);
    wv_ = builder.linear("attention.wv", o.hidden_size, kv, spec);
  }
  attend_ = builder.attention(
      {.shape = {o.num_attention_heads, o.num_key_value_heads, d}, .layer = layer});
  wo_ =
      builder.linear("attention.wo", q, o.hidden_size,
                     {.split = LinearSplit::kIn, .unit = d, .bias = o.o_bias, .init_std = out_std});
}

Tensor SelfAttention::operator()(const Tensor& x_TC, const StepContext& step) const {
  if (wqkv_) return (*wo_)((*attend_)((*wqkv_)(x_TC), step));
  return (*wo_)((*attend_)((*wq_)(x_TC), (*wk_)(x_TC), (*wv_)(x_TC), step));
}

}  // namespace ink
