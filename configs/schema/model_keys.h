// The `model` section of a run file, before it is known whether a checkpoint fills in the rest.
//
// Without `model.path` the keys must describe a whole architecture: resolve_model() makes the
// ModelOptions of a random start. With `model.path` the checkpoint's config.json describes it and
// overrule_model() applies the few keys that may differ and refuses a contradiction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "configs/schema/field.h"
#include "configs/schema/model_options.h"
#include "configs/schema/place.h"

namespace ink {

enum class Precision { kF32, kBf16, kF16 };

template <>
struct Choices<Precision> {
  static constexpr Choice<Precision> kBuilt[] = {
      {"fp32", Precision::kF32}, {"bf16", Precision::kBf16}, {"fp16", Precision::kF16}};
};

// Distribution of random weights; the standard deviations are the family's.
enum class InitShape { kNormal, kUniform };

template <>
struct Choices<InitShape> {
  static constexpr Choice<InitShape> kBuilt[] = {{"normal", InitShape::kNormal},
                                                 {"uniform", InitShape::kUniform}};
};

struct ModelSection {
  std::optional<std::string> path;
  std::optional<std::string> tokenizer;
  std::optional<Precision> dtype;
  InitShape init = InitShape::kNormal;

  std::optional<Family> family;
  std::optional<int64_t> hidden_size, intermediate_size, num_hidden_layers, num_attention_heads,
      num_key_value_heads, head_dim, vocab_size, max_position_embeddings;
  std::optional<double> rms_norm_eps, rope_theta;
  std::optional<RopeScaling> rope_scaling;
  std::optional<bool> attention_bias, qkv_bias, mlp_bias, tie_word_embeddings;
  std::optional<double> dropout;

  template <class V>
  void fields(V& v) {
    v.field("path", path, "Hugging Face directory to start from; unset = random weights");
    v.field("tokenizer", tokenizer,
            "tokenizer file or directory; unset = beside the weights. Needed only where text is "
            "read or shown");
    v.field("dtype", dtype,
            "compute type; unset = that of config.json, else bf16 where the processor has it and "
            "fp32 elsewhere; fp16 has f32 masters and a dynamic loss scale");
    v.field("init", init, "distribution of random weights");
    v.field("family", family, "architecture");
    v.field("hidden_size", hidden_size, "width of the residual stream", at_least(1));
    v.field("intermediate_size", intermediate_size, "width of the MLP", at_least(1));
    v.field("num_hidden_layers", num_hidden_layers, "number of blocks", at_least(1));
    v.field("num_attention_heads", num_attention_heads, "query heads", at_least(1));
    v.field("num_key_value_heads", num_key_value_heads,
            "key and value heads; unset = num_attention_heads", at_least(1));
    v.field("head_dim", head_dim, "size of a head; unset = hidden_size / num_attention_heads",
            at_least(2));
    v.field("vocab_size", vocab_size, "rows of the embedding and the head", at_least(1));
    v.field("max_position_embeddings", max_position_embeddings, "longest trained sequence",
            at_least(1));
    v.field("rms_norm_eps", rms_norm_eps, "epsilon of the norms", above(0));
    v.field("rope_theta", rope_theta, "base of the rotary angles", above(1));
    v.field("rope_scaling", rope_scaling, "longer context than trained; unset = none");
    v.field("attention_bias", attention_bias,
            "bias on the q, k, v and output projections; unset = false, required for internlm");
    v.field("qkv_bias", qkv_bias,
            "bias on q, k, v alone; unset = attention_bias, or true for qwen2");
    v.field("mlp_bias", mlp_bias, "bias on the MLP's projections; unset = false");
    v.field("tie_word_embeddings", tie_word_embeddings, "the head is the embedding; unset = false");
    v.field("dropout", dropout,
            "on the outputs of the attention and MLP output projections; unset = 0", below(0, 1));
  }
  friend bool operator==(const ModelSection&, const ModelSection&) = default;
};

// The architecture of a random start. Error 2 names the missing key, or the values that do not fit.
ModelOptions resolve_model(const ModelSection& keys, const Places& places = {});

// The architecture of a checkpoint with the user's keys applied: rope_scaling, dropout and
// max_position_embeddings may be overruled; any other key must agree with `from_checkpoint`, or the
// error names both values. `source` is the file the checkpoint's values come from.
ModelOptions overrule_model(const ModelSection& keys, const ModelOptions& from_checkpoint,
                            const std::string& source, const Places& places = {});

// Heads divide, sizes multiply to the width they must; error 2 with the numbers.
void check_model(const ModelOptions& model, const Places& places = {});

}  // namespace ink
