#include "models/generate/generator.h"

#include <algorithm>
#include <numeric>

namespace ink {
namespace {

// The cache of one sequence as one block per layer.
KvView make_cache(Runtime& runtime, const Decoder& model, DType dtype, int64_t capacity) {
  const ModelOptions& o = model.options();
  KvView cache;
  const Scoped tag(runtime.tag, MemoryTag::kActivations);
  for (int64_t i = 0; i < model.block_count(); ++i) {
    cache.k.emplace_back(runtime, Shape{capacity, o.num_key_value_heads * o.head_dim}, dtype);
    cache.v.emplace_back(runtime, Shape{capacity, o.num_key_value_heads * o.head_dim}, dtype);
  }
  cache.block_table = to_tensor<int32_t>(runtime, std::vector<int32_t>{0}).reshape({1, 1});
  cache.block = capacity;
  return cache;
}

Batch make_batch(Runtime& runtime, std::span<const int32_t> ids, int64_t first_position) {
  const auto count = static_cast<int64_t>(ids.size());
  std::vector<int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(first_position));
  Batch batch;
  batch.tokens_T = to_tensor<int32_t>(runtime, ids, {count});
  batch.positions_T = to_tensor(runtime, positions);
  batch.documents = {.cu_seqlens = to_tensor<int32_t>(
                         runtime, std::vector<int32_t>{0, static_cast<int32_t>(count)}),
                     .max_seqlen = count};
  batch.tokens = count;
  return batch;
}

class Stepper {
 public:
  Stepper(Runtime& runtime, const Decoder& model, int64_t capacity)
      : runtime_(runtime),
        model_(model),
        cache_(make_cache(runtime, model, model.dtype(), capacity)) {}

  // Logits after the last of `ids`.
  std::vector<float> next(const std::vector<int32_t>& ids) {
    const auto length = static_cast<int64_t>(ids.size());
    const bool angles_move = model_.options().rope_scaling.type == RopeScalingType::kDynamic &&
                             length > model_.options().max_position_embeddings;
    if (angles_move)
      return to_vector<float>(model_.last_logits(make_batch(runtime_, ids, 0), length));
    const std::span<const int32_t> fresh = std::span(ids).subspan(static_cast<size_t>(cached_));
    const auto count = static_cast<int32_t>(fresh.size());
    cache_.cached_lengths =
        to_tensor<int32_t>(runtime_, std::vector<int32_t>{static_cast<int32_t>(length)});
    cache_.cu_queries = to_tensor<int32_t>(runtime_, std::vector<int32_t>{0, count});
    const Tensor logits = model_.last_logits(make_batch(runtime_, fresh, cached_), length, &cache_);
    cached_ = length;
    return to_vector<float>(logits);
  }

 private:
  Runtime& runtime_;
  const Decoder& model_;
  KvView cache_;
  int64_t cached_ = 0;
};

}  // namespace

Generated generate(Runtime& runtime, const Decoder& model, std::span<const int32_t> prompt,
                   const SamplingOptions& options, const OnToken& on_token) {
  check_sampling(options);
  if (prompt.empty())
    throw Error(ExitCode::kConfig, "prompt", "expected at least one token, got none");
  for (const int32_t id : prompt) {
    if (id < 0 || id >= model.options().vocab_size) {
      throw Error(
          ExitCode::kBadInput, "prompt",
          fmt::format("expected token ids below {}, got {}", model.options().vocab_size, id));
    }
  }
  const Scoped no_grad(runtime.grad_enabled, false);
  const Scoped no_dropout(runtime.training, false);
  std::vector<int32_t> ids(prompt.begin(), prompt.end());
  Stepper stepper(runtime, model, static_cast<int64_t>(ids.size()) + options.max_new_tokens);
  Generated generated;
  for (int64_t i = 0; i < options.max_new_tokens; ++i) {
    const SampledToken token = sample_token(stepper.next(ids), options, i, ids);
    ids.push_back(token.id);
    generated.ids.push_back(token.id);
    generated.logprobs.push_back(token.logprob);
    const bool stop = std::find(options.stop_ids.begin(), options.stop_ids.end(), token.id) !=
                      options.stop_ids.end();
    if (stop) generated.reason = StopReason::kEos;
    if (on_token && !on_token(token) && !stop) {
      generated.reason = StopReason::kCallback;
      break;
    }
    if (stop) break;
  }
  return generated;
}

}  // namespace ink
