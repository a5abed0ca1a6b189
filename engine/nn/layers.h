// The layers a Builder hands out. The classes here are the single-rank ones; other layouts derive
// from them.
//
// A layer holds references to parameter records and no other state. Calls take what varies per step
// in a StepContext.
#pragma once

#include <cstdint>
#include <string>

#include "engine/nn/batch.h"
#include "engine/nn/kv_view.h"
#include "engine/nn/parameter.h"
#include "engine/ops/lm_loss.h"
#include "engine/ops/rms_norm.h"
#include "engine/ops/rope.h"

namespace ink {

// What all blocks of one forward pass share.
struct StepContext {
  const Batch* batch = nullptr;
  Tensor rope_table_TD;
  uint64_t seed = 0;        // of dropout
  KvView* cache = nullptr;  // set while generating
};

// The residual stream between blocks: its value is x + delta, not yet added. delta may be
// undefined.
struct Residual {
  Tensor x_TC, delta_TC;
};

class Linear {
 public:
  explicit Linear(Parameter& weight, Parameter* bias = nullptr) : weight_(weight), bias_(bias) {}
  virtual ~Linear() = default;
  [[nodiscard]] virtual Tensor operator()(const Tensor& x_TI) const;

 protected:
  Parameter& weight_;
  Parameter* bias_;
};

class Embedding {
 public:
  explicit Embedding(Parameter& weight) : weight_(weight) {}
  virtual ~Embedding() = default;
  [[nodiscard]] virtual Tensor operator()(const Tensor& ids_T) const;
  [[nodiscard]] DType dtype() const { return weight_.value().dtype(); }

 protected:
  Parameter& weight_;
};

class Norm {
 public:
  Norm(Parameter& weight, float eps) : weight_(weight), eps_(eps) {}
  virtual ~Norm() = default;
  [[nodiscard]] virtual Normed operator()(const Residual& residual) const;

 protected:
  Parameter& weight_;
  float eps_;
};

struct AttentionSpec {
  AttentionShape shape;
  int64_t layer = 0;  // index into the cache
};

// Rotates queries and keys, attends inside documents; with a cache, appends to it and reads it.
class Attention {
 public:
  explicit Attention(const AttentionSpec& spec) : spec_(spec) {}
  virtual ~Attention() = default;
  // Fused: K groups of (r query heads, key, value).
  [[nodiscard]] virtual Tensor operator()(Tensor qkv_TC, const StepContext& step) const;
  [[nodiscard]] virtual Tensor operator()(const Tensor& q_TC, const Tensor& k_TC,
                                          const Tensor& v_TC, const StepContext& step) const;

 protected:
  AttentionSpec spec_;
};

class LmHead {
 public:
  explicit LmHead(Parameter& weight) : weight_(weight) {}
  virtual ~LmHead() = default;
  [[nodiscard]] virtual LmLoss loss(const Tensor& x_TC, const Batch& batch,
                                    const LmLossOptions& options) const;
  // f32 (f64) logits of every row, for generation and checks.
  [[nodiscard]] virtual Tensor logits(const Tensor& x_TC) const;

 protected:
  Parameter& weight_;
};

}  // namespace ink
