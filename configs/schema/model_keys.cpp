#include "configs/schema/model_keys.h"

#include <fmt/format.h>

#include "configs/schema/dump.h"
#include "engine/core/error.h"

namespace ink {
namespace {

[[noreturn]] void refuse(const std::string& key, const Places& places, const std::string& message) {
  throw Error(ExitCode::kConfig, places.of("model." + key),
              fmt::format("model.{}: {}", key, message));
}

template <class T>
T required(const std::optional<T>& value, const std::string& key, const Places& places) {
  if (!value) refuse(key, places, "expected a value for a model without model.path, got none");
  return *value;
}

// Visits the keys that a checkpoint decides: (key of the run file, its value, the model's value).
template <class Visit>
void decided_keys(const ModelSection& keys, const ModelOptions& model, Visit visit) {
  visit("family", keys.family, model.family);
  visit("hidden_size", keys.hidden_size, model.hidden_size);
  visit("intermediate_size", keys.intermediate_size, model.intermediate_size);
  visit("num_hidden_layers", keys.num_hidden_layers, model.num_hidden_layers);
  visit("num_attention_heads", keys.num_attention_heads, model.num_attention_heads);
  visit("num_key_value_heads", keys.num_key_value_heads, model.num_key_value_heads);
  visit("head_dim", keys.head_dim, model.head_dim);
  visit("vocab_size", keys.vocab_size, model.vocab_size);
  visit("rms_norm_eps", keys.rms_norm_eps, model.rms_norm_eps);
  visit("rope_theta", keys.rope_theta, model.rope_theta);
  visit("attention_bias", keys.attention_bias, model.o_bias);
  visit("qkv_bias", keys.qkv_bias, model.qkv_bias);
  visit("mlp_bias", keys.mlp_bias, model.mlp_bias);
  visit("tie_word_embeddings", keys.tie_word_embeddings, model.tie_word_embeddings);
}

}  // namespace

ModelOptions resolve_model(const ModelSection& keys, const Places& places) {
  ModelOptions model;
  model.family = required(keys.family, "family", places);
  model.hidden_size = required(keys.hidden_size, "hidden_size", places);
  model.intermediate_size = required(keys.intermediate_size, "intermediate_size", places);
  model.num_hidden_layers = required(keys.num_hidden_layers, "num_hidden_layers", places);
  model.num_attention_heads = required(keys.num_attention_heads, "num_attention_heads", places);
  model.num_key_value_heads = keys.num_key_value_heads.value_or(model.num_attention_heads);
  model.vocab_size = required(keys.vocab_size, "vocab_size", places);
  model.max_position_embeddings =
      required(keys.max_position_embeddings, "max_position_embeddings", places);
  model.rms_norm_eps = required(keys.rms_norm_eps, "rms_norm_eps", places);
  model.rope_theta = required(keys.rope_theta, "rope_theta", places);
  model.rope_scaling = keys.rope_scaling.value_or(RopeScaling{});
  if (!keys.head_dim && model.hidden_size % model.num_attention_heads != 0)
    refuse("head_dim", places,
           fmt::format("expected a value, because hidden_size {} / num_attention_heads {} is no "
                       "integer",
                       model.hidden_size, model.num_attention_heads));
  model.head_dim = keys.head_dim.value_or(model.hidden_size / model.num_attention_heads);
  // InternLM releases differ in their biases: the name of the family does not tell.
  if (model.family == Family::kInternLM) required(keys.attention_bias, "attention_bias", places);
  model.o_bias = keys.attention_bias.value_or(false);
  model.qkv_bias = keys.qkv_bias.value_or(model.o_bias || model.family == Family::kQwen2);
  model.mlp_bias = keys.mlp_bias.value_or(false);
  model.tie_word_embeddings = keys.tie_word_embeddings.value_or(false);
  model.dropout = keys.dropout.value_or(0);
  check_model(model, places);
  return model;
}

ModelOptions overrule_model(const ModelSection& keys, const ModelOptions& from_checkpoint,
                            const std::string& source, const Places& places) {
  decided_keys(keys, from_checkpoint, [&](const char* key, const auto& asked, const auto& found) {
    if (asked && *asked != found)
      refuse(key, places,
             fmt::format("expected {} as in {}, got {}", emit_flow(to_node(found)), source,
                         emit_flow(to_node(*asked))));
  });
  ModelOptions model = from_checkpoint;
  if (keys.max_position_embeddings) model.max_position_embeddings = *keys.max_position_embeddings;
  if (keys.rope_scaling) model.rope_scaling = *keys.rope_scaling;
  if (keys.dropout) model.dropout = *keys.dropout;
  check_model(model, places);
  return model;
}

void check_model(const ModelOptions& model, const Places& places) {
  if (model.num_attention_heads % model.num_key_value_heads != 0)
    refuse("num_key_value_heads", places,
           fmt::format("expected a divisor of num_attention_heads {}, got {}",
                       model.num_attention_heads, model.num_key_value_heads));
  if (model.head_dim % 2 != 0)
    refuse("head_dim", places,
           fmt::format("expected an even size, because rotary angles pair its halves, got {}",
                       model.head_dim));
  const RopeScaling& scaling = model.rope_scaling;
  if (scaling.type == RopeScalingType::kNone && scaling.factor != 1.0)
    refuse("rope_scaling.factor", places,
           fmt::format("expected a type beside it, got factor {} and type none", scaling.factor));
}

}  // namespace ink
