// What the backward kernels of attention get, on the host and on the card.
#pragma once

#include <cmath>

#include "engine/kernels/cuda/attention_rows.h"

namespace ink {

// rowsum(dout * out) of every head of every token: f32 [H, T], workspace. The first pass of every
// candidate.
[[nodiscard]] Tensor attention_delta(const Tensor& dout_TC, const Tensor& out_TC, int64_t heads);

struct AttentionBackward {
  const Tensor& dout_TC;
  const HeadsView &q, &k, &v;
  const Tensor& lse_HT;
  Tensor delta_HT;
  AttentionSequences sequences;
  const HeadsView &dq, &dk, &dv;
  [[nodiscard]] int64_t ratio() const { return q.heads() / k.heads(); }
  [[nodiscard]] const Tensor& rows_TC() const { return dout_TC; }
};
// Its delta is under way.
[[nodiscard]] inline AttentionBackward packed_backward(const Tensor& dout_TC, const HeadsView& q,
                                                       const HeadsView& k, const HeadsView& v,
                                                       const Tensor& out_TC, const Tensor& lse_HT,
                                                       const Documents& documents,
                                                       const HeadsView& dq, const HeadsView& dk,
                                                       const HeadsView& dv) {
  return {.dout_TC = dout_TC,
          .q = q,
          .k = k,
          .v = v,
          .lse_HT = lse_HT,
          .delta_HT = attention_delta(dout_TC, out_TC, q.heads()),
          .sequences = sequences_of(documents),
          .dq = dq,
          .dk = dk,
          .dv = dv};
}

template <class T>
struct BackwardArguments {
  Heads<const T> q, k, v, dout;
  Heads<T> dq, dk, dv;
  const float *lse = nullptr, *delta = nullptr;  // [H, T]
  int64_t tokens = 0;
  const AttentionItem* items = nullptr;
  FastDivide kv_heads, ratio;
  float scale = 0;
  bool packed = false;  // every head of every row of q, k, v and dout starts on 16 bytes
};

template <class T>
[[nodiscard]] BackwardArguments<T> arguments_of(const AttentionBackward& p, const Tensor& items) {
  return {.q = heads_of<const T>(p.q),
          .k = heads_of<const T>(p.k),
          .v = heads_of<const T>(p.v),
          .dout = heads_of<const T>({p.dout_TC, p.q.head_dim}),
          .dq = heads_of<T>(p.dq),
          .dk = heads_of<T>(p.dk),
          .dv = heads_of<T>(p.dv),
          .lse = p.lse_HT.data<float>(),
          .delta = p.delta_HT.data<float>(),
          .tokens = p.dout_TC.rows(),
          .items = static_cast<const AttentionItem*>(items.raw()),
          .kv_heads = FastDivide(p.k.heads()),
          .ratio = FastDivide(p.ratio()),
          .scale = 1.0f / std::sqrt(static_cast<float>(p.q.head_dim)),
          .packed = heads_on_16_bytes(p.q) && heads_on_16_bytes(p.k) && heads_on_16_bytes(p.v) &&
                    heads_on_16_bytes(p.dout_TC, p.q.head_dim)};
}

// The two passes of `flash_mma` and of `flash_wgmma`.
void flash_backward_keys(const AttentionBackward& p);
void flash_backward_queries(const AttentionBackward& p);
void wgmma_backward_keys(const AttentionBackward& p);
void wgmma_backward_queries(const AttentionBackward& p);

}  // namespace ink
