// What the forward kernels of attention get, on the host and on the card.
#pragma once

#include <cmath>

#include "engine/kernels/cuda/attention_rows.h"

namespace ink {

struct AttentionForward {
  const HeadsView &q, &k, &v;
  Tensor& out_TC;
  AttentionSequences sequences;
  float* lse = nullptr;
  KeyRows key_rows;
  [[nodiscard]] int64_t ratio() const { return q.heads() / k.heads(); }
  [[nodiscard]] const Tensor& rows_TC() const { return out_TC; }
};
[[nodiscard]] inline AttentionForward packed_forward(const HeadsView& q, const HeadsView& k,
                                                     const HeadsView& v, const Documents& documents,
                                                     Tensor& out_TC, Tensor& lse_HT) {
  return {.q = q,
          .k = k,
          .v = v,
          .out_TC = out_TC,
          .sequences = sequences_of(documents),
          .lse = lse_HT.data<float>(),
          .key_rows = {}};
}

template <class T>
struct ForwardArguments {
  Heads<const T> q, k, v;
  Heads<T> out;
  float* lse = nullptr;  // [H, T], may be absent
  int64_t tokens = 0;
  const AttentionItem* items = nullptr;
  FastDivide kv_heads, ratio;
  float scale = 0;
  KeyRows key_rows;
};

template <class T>
[[nodiscard]] ForwardArguments<T> arguments_of(const AttentionForward& p, const Tensor& items) {
  return {.q = heads_of<const T>(p.q),
          .k = heads_of<const T>(p.k),
          .v = heads_of<const T>(p.v),
          .out = heads_of<T>({p.out_TC, p.q.head_dim}),
          .lse = p.lse,
          .tokens = p.out_TC.rows(),
          .items = static_cast<const AttentionItem*>(items.raw()),
          .kv_heads = FastDivide(p.k.heads()),
          .ratio = FastDivide(p.ratio()),
          .scale = 1.0f / std::sqrt(static_cast<float>(p.q.head_dim)),
          .key_rows = p.key_rows};
}

}  // namespace ink
