#include "models/common/decoder.h"

#include <cmath>

#include "engine/autograd/backward.h"
#include "engine/ops/elementwise.h"
#include "models/common/positions.h"

namespace ink {
namespace {

float scaled_std(float std, int64_t layer) {
  return std / std::sqrt(2.0f * static_cast<float>(layer + 1));
}

}  // namespace

DecoderBlock::DecoderBlock(Builder& builder, const ModelOptions& o, int64_t layer,
                           const InitStds& stds)
    : layer_(layer),
      dropout_(static_cast<float>(o.dropout)),
      attention_norm_(
          builder.norm("attention_norm", o.hidden_size, static_cast<float>(o.rms_norm_eps))),
      ffn_norm_(builder.norm("ffn_norm", o.hidden_size, static_cast<float>(o.rms_norm_eps))),
      attention_(builder, o, layer, stds.block, scaled_std(stds.block, layer)),
      mlp_(builder, o, stds.block, scaled_std(stds.block, layer)) {}

Tensor DecoderBlock::dropped(const Tensor& x_TC, const char* place, const StepContext& step) const {
  if (dropout_ == 0.0f) return x_TC;
  const PhiloxKey key = philox_key(step.seed, fmt::format("dropout.layers.{}.{}", layer_, place));
  return dropout(x_TC, step.batch->token_id_T, dropout_,
                 {key, step.batch->step, step.batch->step_state});
}

Residual DecoderBlock::operator()(const Residual& residual, const StepContext& step) const {
  const Normed a = (*attention_norm_)(residual);
  const Tensor attended = dropped(attention_(a.n_TC, step), "attention", step);
  const Normed b = (*ffn_norm_)({a.h_TC, attended});
  return {b.h_TC, dropped(mlp_(b.n_TC), "feed_forward", step)};
}

Decoder::Decoder(Builder& builder, const ModelOptions& o, const InitStds& stds)
    : options_(o),
      embedding_(builder.embedding("embedding", o.vocab_size, o.hidden_size, stds.embedding)),
      blocks_(builder.blocks(
          o.num_hidden_layers,
          [&](int64_t i) { return std::make_unique<DecoderBlock>(builder, o, i, stds); })),
      norm_(builder.norm("norm", o.hidden_size, static_cast<float>(o.rms_norm_eps))),
      head_(builder.lm_head("head", o.hidden_size, o.vocab_size,
                            {.tied_to = o.tie_word_embeddings ? "embedding.weight" : "",
                             .init_std = stds.embedding})) {}

StepContext Decoder::begin(const Batch& batch, int64_t length, uint64_t seed, KvView* cache) const {
  const DType table_dtype = dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  return {.batch = &batch,
          .rope_table_TD = rope_table(batch.positions_T, options_.head_dim,
                                      rope_options(options_, length), table_dtype),
          .seed = seed,
          .cache = cache};
}

Residual Decoder::embed(const StepContext& step) const {
  return {(*embedding_)(step.batch->tokens_T), Tensor()};
}

Residual Decoder::block(int64_t i, const Residual& residual, const StepContext& step) const {
  const DecoderBlock& block = *blocks_[static_cast<size_t>(i)];
  const Runtime& runtime = residual.x_TC.runtime();
  if (runtime.recompute != Recompute::kFull || !runtime.grad_enabled) return block(residual, step);
  // The segment's input is one tensor, as at a stage boundary; it keeps a copy of the context,
  // which is cheap handles.
  const bool has_delta = residual.delta_TC.defined();
  const std::vector<Tensor> inputs{has_delta ? add(residual.x_TC, residual.delta_TC)
                                             : residual.x_TC};
  const std::vector<Tensor> out =
      recompute(inputs, [&block, step](const std::vector<Tensor>& in) -> std::vector<Tensor> {
        const Residual r = block({in[0], Tensor()}, step);
        return {add(r.x_TC, r.delta_TC)};
      });
  return {out[0], Tensor()};
}

Residual Decoder::run_blocks(Residual residual, const StepContext& step) const {
  for (int64_t i = 0; i < block_count(); ++i) residual = block(i, residual, step);
  return residual;
}

LmLoss Decoder::head_loss(const Residual& residual, const StepContext& step,
                          const LmLossOptions& options) const {
  return head_->loss((*norm_)(residual).n_TC, *step.batch, options);
}

Tensor Decoder::head_logits(const Residual& residual) const {
  return head_->logits((*norm_)(residual).n_TC);
}

LmLoss Decoder::loss(const Batch& batch, int64_t length, uint64_t seed,
                     const LmLossOptions& options) const {
  const StepContext step = begin(batch, length, seed);
  return head_loss(run_blocks(embed(step), step), step, options);
}

Tensor Decoder::logits(const Batch& batch, int64_t length, KvView* cache) const {
  const StepContext step = begin(batch, length, 0, cache);
  return head_logits(run_blocks(embed(step), step));
}

Tensor Decoder::last_logits(const Batch& batch, int64_t length, KvView* cache) const {
  const StepContext step = begin(batch, length, 0, cache);
  const Residual all = run_blocks(embed(step), step);
  const int64_t last = all.x_TC.rows() - 1;
  return head_logits(
      {all.x_TC.slice(last, 1), all.delta_TC.defined() ? all.delta_TC.slice(last, 1) : Tensor()});
}

}  // namespace ink
