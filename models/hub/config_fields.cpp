#include "models/hub/config_fields.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include "engine/core/error.h"

namespace ink {
namespace {

using nlohmann::json;

// Read or without effect on the numbers: sorted, one word each.
constexpr std::array kKnown = std::to_array<std::string_view>({
    "_name_or_path",
    "architectures",
    "attention_bias",
    "attn_implementation",
    "auto_map",
    "bias",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "head_dim",
    "hidden_size",
    "id2label",
    "initializer_range",
    "intermediate_size",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "qkv_bias",
    "return_dict",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rotary",
    "scaling_factor",
    "tie_word_embeddings",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_cache",
    "vocab_size",
});

// Implemented with one value only.
struct FixedField {
  std::string_view key, expected;
  bool (*neutral)(const json&);
};
bool is_false(const json& v) { return v == false; }
bool is_zero(const json& v) { return v.is_number() && v == 0; }
bool is_one(const json& v) { return v.is_number() && v == 1; }
bool is_silu(const json& v) { return v == "silu"; }
bool never(const json&) { return false; }
bool is_full_attention(const json& v) {
  return v.is_array() &&
         std::all_of(v.begin(), v.end(), [](const json& t) { return t == "full_attention"; });
}
constexpr std::array kFixed = std::to_array<FixedField>({
    {"hidden_act", "\"silu\"", is_silu},
    {"attention_dropout", "0", is_zero},
    {"hidden_dropout", "0", is_zero},
    {"resid_pdrop", "0", is_zero},
    {"embd_pdrop", "0", is_zero},
    {"partial_rotary_factor", "1", is_one},
    {"rope_interleaved", "false", is_false},
    {"use_qk_norm", "false", is_false},
    {"qk_layernorm", "false", is_false},
    {"norm_head", "false", is_false},
    {"layer_types", "\"full_attention\" in every layer", is_full_attention},
    {"attn_logit_softcapping", "nothing", never},
    {"final_logit_softcapping", "nothing", never},
    {"query_pre_attn_scalar", "nothing", never},
    {"attention_multiplier", "nothing", never},
    {"attention_chunk_size", "nothing", never},
    {"embedding_multiplier", "1", is_one},
    {"residual_multiplier", "1", is_one},
    {"logits_scaling", "1", is_one},
    {"logit_scale", "1", is_one},
    {"no_rope_layers", "nothing", never},
    {"quantization_config", "nothing: quantised weights are not read", never},
    {"num_experts", "nothing: a dense model", never},
    {"num_local_experts", "nothing: a dense model", never},
});

bool same(double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(a); }

// Keeps the one value that all spellings give.
class OneTheta {
 public:
  void take(const JsonReader& from, std::string_view key) {
    if (!from.has(key)) return;
    const double value = from.number(key);
    if (!(value > 0)) throw from.error(key, "a number above 0");
    if (theta_ && !same(*theta_, value))
      throw from.error(key, fmt::format("{}, as said elsewhere in the file", *theta_));
    theta_ = value;
  }
  [[nodiscard]] std::optional<double> value() const { return theta_; }

 private:
  std::optional<double> theta_;
};

// {type | rope_type, factor ...} of rope_scaling or rope_parameters.
RopeScaling read_scaling(const JsonReader& from, int64_t max_position) {
  const std::string_view key = from.has("rope_type") ? "rope_type" : "type";
  const std::string type = from.has(key) ? from.string(key) : "default";
  if (from.has("type") && from.string("type") != type)
    throw from.error("type", quote_name(type) + " as in rope_type");
  for (const std::string& field : from.keys()) {
    const bool neutral = field == "original_max_position_embeddings" && from.has(field) &&
                         from.integer(field) == max_position;
    if (field != "type" && field != "rope_type" && field != "factor" && field != "rope_theta" &&
        field != "partial_rotary_factor" && from.has(field) && !neutral) {
      throw from.error(field, "no such field: it is not implemented");
    }
  }
  if (from.has("partial_rotary_factor") && from.number("partial_rotary_factor") != 1) {
    throw from.error("partial_rotary_factor", "1");
  }
  if (type == "default") return {};
  if (type != "linear" && type != "dynamic")
    throw from.error(key, "\"default\", \"linear\" or \"dynamic\"");
  const double factor = from.number("factor");
  if (!(factor >= 1)) throw from.error("factor", "a number of at least 1");
  return {.type = type == "linear" ? RopeScalingType::kLinear : RopeScalingType::kDynamic,
          .factor = factor};
}

// InternLM1: {"base": 10000, "type": "origin" | "dynamic"}, the factor beside it.
RopeScaling read_rotary(const JsonReader& config, const JsonReader& rotary) {
  const std::string type = rotary.has("type") ? rotary.string("type") : "origin";
  if (type == "origin") return {};
  if (type != "dynamic") throw rotary.error("type", "\"origin\" or \"dynamic\"");
  const bool outside = config.has("scaling_factor"), inside = rotary.has("scaling_factor");
  const double factor = outside  ? config.number("scaling_factor")
                        : inside ? rotary.number("scaling_factor")
                                 : 1.0;
  if (!(factor >= 1))
    throw(outside ? config : rotary).error("scaling_factor", "a number of at least 1");
  return {.type = RopeScalingType::kDynamic, .factor = factor};
}

}  // namespace

RopeFields read_rope(const JsonReader& config, int64_t max_position) {
  OneTheta theta;
  std::vector<RopeScaling> scalings;
  theta.take(config, "rope_theta");
  if (config.has("rope_parameters")) {
    const JsonReader parameters = config.object("rope_parameters");
    theta.take(parameters, "rope_theta");
    scalings.push_back(read_scaling(parameters, max_position));
  }
  if (config.has("rope_scaling"))
    scalings.push_back(read_scaling(config.object("rope_scaling"), max_position));
  if (config.has("rotary")) {
    const JsonReader rotary = config.object("rotary");
    theta.take(rotary, "base");
    scalings.push_back(read_rotary(config, rotary));
  }
  if (!theta.value())
    throw config.error("rope_theta",
                       "a number above 0, here, in rope_parameters or as rotary.base");
  RopeFields rope{.theta = *theta.value(),
                  .scaling = scalings.empty() ? RopeScaling{} : scalings[0]};
  for (const RopeScaling& other : scalings) {
    if (!(other == rope.scaling))
      throw config.error("rope_scaling", "the same scaling wherever the file gives one");
  }
  if (rope.scaling.type == RopeScalingType::kDynamic && max_position == 0) {
    throw config.error("max_position_embeddings",
                       "a number of positions, which dynamic rope scaling needs");
  }
  return rope;
}

void check_fixed_fields(const JsonReader& config, Family family) {
  for (const FixedField& field : kFixed) {
    if (config.has(field.key) && !field.neutral(config.at(field.key)))
      throw config.error(field.key, field.expected);
  }
  // Qwen2 writes the width of a window that use_sliding_window switches; it is off when absent.
  const bool window_off = config.has("use_sliding_window") ? !config.boolean("use_sliding_window")
                                                           : family == Family::kQwen2;
  if (config.has("use_sliding_window") && !window_off)
    throw config.error("use_sliding_window", "false");
  if (config.has("sliding_window") && !window_off) throw config.error("sliding_window", "nothing");
}

std::vector<std::string> unknown_fields(const JsonReader& config) {
  std::vector<std::string> unknown;
  for (const std::string& key : config.keys()) {
    const bool known = std::find(kKnown.begin(), kKnown.end(), key) != kKnown.end() ||
                       std::any_of(kFixed.begin(), kFixed.end(),
                                   [&](const FixedField& f) { return f.key == key; }) ||
                       key == "sliding_window" || key == "use_sliding_window";
    if (!known) unknown.push_back(quote_name(key));
  }
  return unknown;
}

}  // namespace ink
