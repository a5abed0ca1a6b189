// The shape of a model: what a family's code needs to build it, in the names of config.json.
//
// Filled from the `model` section of a run file (model_keys.h) or, by models/hub, from a
// config.json; read by the model families, the planner and the MFU counter. Plain values, no
// behaviour.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "configs/schema/field.h"

namespace ink {

enum class Family { kInternLM, kInternLM2, kInternLM3, kLlama, kQwen2, kInternLMMoe };

template <>
struct Choices<Family> {
  static constexpr Choice<Family> kBuilt[] = {
      {"internlm", Family::kInternLM},   {"internlm2", Family::kInternLM2},
      {"internlm3", Family::kInternLM3}, {"llama", Family::kLlama},
      {"qwen2", Family::kQwen2},
  };
  static constexpr std::string_view kPlanned[] = {"internlm_moe"};
};

enum class RopeScalingType { kNone, kLinear, kDynamic };

template <>
struct Choices<RopeScalingType> {
  static constexpr Choice<RopeScalingType> kBuilt[] = {
      {"none", RopeScalingType::kNone},
      {"linear", RopeScalingType::kLinear},
      {"dynamic", RopeScalingType::kDynamic},
  };
};

struct RopeScaling {
  RopeScalingType type = RopeScalingType::kNone;
  double factor = 1.0;
  bool in_training = false;

  template <class V>
  void fields(V& v) {
    v.field("type", type,
            "linear divides positions by factor; dynamic enlarges theta (NTK) once a sequence is "
            "longer than max_position_embeddings");
    v.field("factor", factor, "factor of the scaling", at_least(1));
    v.field("in_training", in_training,
            "also scale in training, evaluated at data.max_length; generation always scales");
  }
  friend bool operator==(const RopeScaling&, const RopeScaling&) = default;
};

struct ModelOptions {
  Family family = Family::kInternLM2;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  double rope_theta = 0;
  RopeScaling rope_scaling;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = false;
  double dropout = 0;  // on the outputs of the attention and MLP output projections

  // From config.json only; a model built from YAML has none.
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;
  std::optional<int64_t> pad_token_id;

  friend bool operator==(const ModelOptions&, const ModelOptions&) = default;
};

// All parameters, biases and norms included; a tied head is counted once.
int64_t parameter_count(const ModelOptions& model);

// N of the MFU formula: matmul parameters, so without input embedding, norms and biases. The head
// counts even when it is tied, because its multiplication is done.
int64_t matmul_parameter_count(const ModelOptions& model);

// Training FLOP of packed data, forward and backward: 6*N per token plus causal attention,
// 6*L*H*d*len^2 per document. `squared_lengths` is the sum of len^2 over the documents.
double training_flops(const ModelOptions& model, int64_t tokens, double squared_lengths);

}  // namespace ink
