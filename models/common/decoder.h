// A decoder-only language model as three pieces: embed -> block(i) ... -> head. Single-device
// mathematics, written once.
//
// loss() composes the pieces; a pipeline stage calls those it owns. A family builds its Decoder by
// saying how a block is initialised; everything else follows from ModelOptions. The Decoder refers
// to a ParameterTable that outlives it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "configs/schema/model_options.h"
#include "engine/nn/builder.h"
#include "models/common/attention_block.h"
#include "models/common/mlp.h"

namespace ink {

// Standard deviations of a family's initial weights; wo and w2 of block i get block / sqrt(2 (i +
// 1)).
struct InitStds {
  float embedding = 0.02f, block = 0.02f;
};

class DecoderBlock {
 public:
  DecoderBlock(Builder& builder, const ModelOptions& options, int64_t layer, const InitStds& stds);
  [[nodiscard]] Residual operator()(const Residual& residual, const StepContext& step) const;

 private:
  [[nodiscard]] Tensor dropped(const Tensor& x_TC, const char* place,
                               const StepContext& step) const;
  int64_t layer_;
  float dropout_;
  std::unique_ptr<Norm> attention_norm_, ffn_norm_;
  SelfAttention attention_;
  Mlp mlp_;
};

class Decoder {
 public:
  Decoder(Builder& builder, const ModelOptions& options, const InitStds& stds);

  // length: what length-dependent rope scaling sees; 0 = no such scaling (training with a fixed
  // theta).
  [[nodiscard]] StepContext begin(const Batch& batch, int64_t length, uint64_t seed,
                                  KvView* cache = nullptr) const;
  [[nodiscard]] Residual embed(const StepContext& step) const;
  [[nodiscard]] Residual block(int64_t i, const Residual& residual, const StepContext& step) const;
  [[nodiscard]] LmLoss head_loss(const Residual& residual, const StepContext& step,
                                 const LmLossOptions& options) const;
  // f32 logits of every position.
  [[nodiscard]] Tensor head_logits(const Residual& residual) const;

  [[nodiscard]] LmLoss loss(const Batch& batch, int64_t length, uint64_t seed,
                            const LmLossOptions& options) const;
  [[nodiscard]] Tensor logits(const Batch& batch, int64_t length, KvView* cache = nullptr) const;

  // Of the last position alone, [1, V].
  [[nodiscard]] Tensor last_logits(const Batch& batch, int64_t length,
                                   KvView* cache = nullptr) const;

  [[nodiscard]] DType dtype() const { return embedding_->dtype(); }
  [[nodiscard]] int64_t block_count() const { return static_cast<int64_t>(blocks_.size()); }
  [[nodiscard]] const ModelOptions& options() const { return options_; }

 private:
  [[nodiscard]] Residual run_blocks(Residual residual, const StepContext& step) const;
  ModelOptions options_;
  std::unique_ptr<Embedding> embedding_;
  std::vector<std::unique_ptr<DecoderBlock>> blocks_;
  std::unique_ptr<Norm> norm_;
  std::unique_ptr<LmHead> head_;
};

}  // namespace ink
