#include <string_view>

#include "engine/core/error.h"
#include "models/hub/config_json.h"

namespace ink {
namespace {

using nlohmann::ordered_json;

struct ClassFacts {
  std::string_view model_type, architecture;
};

ClassFacts facts_of(HfClass hf_class) {
  switch (hf_class) {
    case HfClass::kLlama:
      return {"llama", "LlamaForCausalLM"};
    case HfClass::kInternLM2:
      return {"internlm2", "InternLM2ForCausalLM"};
    case HfClass::kQwen2:
      return {"qwen2", "Qwen2ForCausalLM"};
  }
  throw InternalError("unknown class");
}

std::string_view torch_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kBF16:
      return "bfloat16";
    case DType::kF16:
      return "float16";
    default:
      throw InternalError(fmt::format("no checkpoint dtype: {}", name_of(dtype)));
  }
}

[[noreturn]] void refuse(HfClass hf_class, const std::string& message) {
  throw Error(ExitCode::kConfig, fmt::format("export as {}", facts_of(hf_class).model_type),
              message);
}

void put_ids(ordered_json& config, const ModelOptions& m, const std::vector<int64_t>& eos) {
  if (m.bos_token_id) config["bos_token_id"] = *m.bos_token_id;
  if (eos.size() == 1) config["eos_token_id"] = eos[0];
  if (eos.size() > 1) config["eos_token_id"] = eos;
  if (m.pad_token_id) config["pad_token_id"] = *m.pad_token_id;
}

}  // namespace

HfClass default_hf_class(Family family) {
  return family == Family::kQwen2 ? HfClass::kQwen2 : HfClass::kLlama;
}

HfNames hf_names_of(HfClass hf_class) {
  return hf_class == HfClass::kInternLM2 ? HfNames::kInternLM2 : HfNames::kLlama;
}

std::string_view model_type_of(HfClass hf_class) { return facts_of(hf_class).model_type; }

void require_expressible(const ModelOptions& m, HfClass hf_class) {
  const auto biases = [&] {
    return fmt::format("qkv_bias {}, o_bias {}, mlp_bias {}", m.qkv_bias, m.o_bias, m.mlp_bias);
  };
  switch (hf_class) {
    case HfClass::kLlama:
      if (m.qkv_bias != m.o_bias)
        refuse(hf_class, "expected a bias on all of q, k, v, o or on none, got " + biases());
      return;
    case HfClass::kQwen2:
      if (!m.qkv_bias || m.o_bias || m.mlp_bias)
        refuse(hf_class, "expected a bias on q, k, v only, got " + biases());
      return;
    case HfClass::kInternLM2:
      if (m.qkv_bias != m.o_bias || m.mlp_bias) {
        refuse(
            hf_class,
            "expected a bias on all of q, k, v, o or on none and none in the MLP, got " + biases());
      }
      // The public class derives head_dim from these two.
      if (m.head_dim * m.num_attention_heads != m.hidden_size) {
        refuse(hf_class, fmt::format("expected heads * head_dim = hidden_size, got {} * {} and {}",
                                     m.num_attention_heads, m.head_dim, m.hidden_size));
      }
  }
}

ordered_json write_config_json(const ModelOptions& m, HfClass hf_class, DType dtype) {
  require_expressible(m, hf_class);
  const ClassFacts facts = facts_of(hf_class);
  ordered_json config;
  config["architectures"] = {facts.architecture};
  config["model_type"] = facts.model_type;
  config["hidden_size"] = m.hidden_size;
  config["intermediate_size"] = m.intermediate_size;
  config["num_hidden_layers"] = m.num_hidden_layers;
  config["num_attention_heads"] = m.num_attention_heads;
  config["num_key_value_heads"] = m.num_key_value_heads;
  if (hf_class != HfClass::kInternLM2) config["head_dim"] = m.head_dim;
  config["hidden_act"] = "silu";
  config["rms_norm_eps"] = m.rms_norm_eps;
  config["rope_theta"] = m.rope_theta;
  if (m.rope_scaling.type == RopeScalingType::kNone) {
    config["rope_scaling"] = nullptr;
  } else {
    // Releases before 4.43 read `type`, later ones `rope_type`.
    const char* type = m.rope_scaling.type == RopeScalingType::kLinear ? "linear" : "dynamic";
    config["rope_scaling"] = {
        {"type", type}, {"rope_type", type}, {"factor", m.rope_scaling.factor}};
  }
  config["vocab_size"] = m.vocab_size;
  if (m.max_position_embeddings > 0) config["max_position_embeddings"] = m.max_position_embeddings;
  config["tie_word_embeddings"] = m.tie_word_embeddings;
  if (hf_class == HfClass::kLlama) {
    config["attention_bias"] = m.qkv_bias;
    config["mlp_bias"] = m.mlp_bias;
  }
  if (hf_class == HfClass::kInternLM2) config["bias"] = m.qkv_bias;
  put_ids(config, m, m.eos_token_ids);
  config["torch_dtype"] = torch_name(dtype);
  config["use_cache"] = true;
  return config;
}

ordered_json write_generation_config(const ModelOptions& m, const std::vector<int64_t>& stop_ids) {
  ordered_json config = ordered_json::object();
  put_ids(config, m, stop_ids.empty() ? m.eos_token_ids : stop_ids);
  return config;
}

}  // namespace ink
