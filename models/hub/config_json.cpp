#include "models/hub/config_json.h"

#include <algorithm>
#include <array>
#include <set>

#include "engine/core/error.h"
#include "engine/io/json.h"
#include "models/hub/config_fields.h"

namespace ink {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kArchitectures{{
    {"InternLMForCausalLM", "internlm"},
    {"InternLM2ForCausalLM", "internlm2"},
    {"InternLM3ForCausalLM", "internlm3"},
    {"LlamaForCausalLM", "llama"},
    {"Qwen2ForCausalLM", "qwen2"},
    {"InternLMMoEForCausalLM", "internlm_moe"},
}};

std::optional<Family> family_named(std::string_view name) {
  for (const auto& choice : Choices<Family>::kBuilt) {
    if (choice.name == name) return choice.value;
  }
  return std::nullopt;
}

std::string known_families() {
  std::string names;
  for (const auto& choice : Choices<Family>::kBuilt)
    names += (names.empty() ? "" : ", ") + std::string(choice.name);
  return names;
}

// model_type decides; architectures are asked when it is absent or unknown.
Family family_of(const JsonReader& config) {
  if (config.has("model_type")) {
    if (const auto family = family_named(config.string("model_type"))) return *family;
  }
  if (config.has("architectures")) {
    for (const std::string& name : config.strings("architectures")) {
      for (const auto& [architecture, type] : kArchitectures) {
        const auto family = family_named(type);
        if (name == architecture && family) return *family;
      }
    }
  }
  throw config.error("model_type", "one of " + known_families());
}

class ConfigParser {
 public:
  explicit ConfigParser(const JsonReader& config) : config_(config) {}

  HfConfig parse() {
    model_.family = family_of(config_);
    shape();
    model_.rms_norm_eps = positive("rms_norm_eps");
    const RopeFields rope = read_rope(config_, model_.max_position_embeddings);
    model_.rope_theta = rope.theta;
    model_.rope_scaling = rope.scaling;
    biases();
    model_.tie_word_embeddings = config_.boolean_or("tie_word_embeddings", false);
    token_ids();
    check_fixed_fields(config_, model_.family);

    HfConfig result{.model = model_, .dtype = dtype(), .notices = {}};
    const std::vector<std::string> unknown = unknown_fields(config_);
    if (!unknown.empty()) {
      result.notices.push_back(
          fmt::format("{}: ignored unknown fields {}", config_.place(), fmt::join(unknown, ", ")));
    }
    if (config_.has("auto_map")) {
      result.notices.push_back(config_.place() +
                               ": auto_map is ignored: code that comes with a model is never run");
    }
    return result;
  }

 private:
  // Far above any model; products of three of them still fit 64 bits.
  static constexpr int64_t kMaxWidth = 1 << 24, kMaxHeads = 1 << 10, kMaxLayers = 1 << 10;
  static constexpr int64_t kMaxTokens = int64_t{1} << 31;

  int64_t size(std::string_view key, int64_t max) const { return config_.integer(key, 1, max); }
  double positive(std::string_view key) const {
    if (!(config_.has(key) && config_.number(key) > 0))
      throw config_.error(key, "a number above 0");
    return config_.number(key);
  }

  void shape() {
    model_.hidden_size = size("hidden_size", kMaxWidth);
    model_.intermediate_size = size("intermediate_size", kMaxWidth);
    model_.num_hidden_layers = size("num_hidden_layers", kMaxLayers);
    model_.num_attention_heads = size("num_attention_heads", kMaxHeads);
    model_.vocab_size = size("vocab_size", kMaxTokens);
    model_.num_key_value_heads = config_.has("num_key_value_heads")
                                     ? size("num_key_value_heads", kMaxHeads)
                                     : model_.num_attention_heads;
    if (model_.num_attention_heads % model_.num_key_value_heads != 0) {
      throw config_.error(
          "num_key_value_heads",
          fmt::format("a divisor of num_attention_heads = {}", model_.num_attention_heads));
    }
    if (config_.has("head_dim")) {
      model_.head_dim = size("head_dim", 1 << 16);
    } else if (model_.hidden_size % model_.num_attention_heads == 0) {
      model_.head_dim = model_.hidden_size / model_.num_attention_heads;
    } else {
      throw config_.error(
          "num_attention_heads",
          fmt::format("a divisor of hidden_size = {} or a head_dim", model_.hidden_size));
    }
    if (model_.head_dim % 2 != 0) {
      throw config_.error("head_dim", fmt::format("an even head size, which rope needs; {} is not",
                                                  model_.head_dim));
    }
    if (config_.has("max_position_embeddings"))
      model_.max_position_embeddings = size("max_position_embeddings", kMaxTokens);
  }

  void biases() {
    switch (model_.family) {
      case Family::kQwen2:
        model_.qkv_bias = true;
        break;
      case Family::kLlama:
        model_.qkv_bias = model_.o_bias = config_.boolean_or("attention_bias", false);
        model_.mlp_bias = config_.boolean_or("mlp_bias", false);
        break;
      case Family::kInternLM3:
        model_.qkv_bias = config_.boolean_or("qkv_bias", false);
        model_.o_bias = model_.mlp_bias = config_.boolean_or("bias", false);
        break;
      default:  // InternLM1 and 2: one switch for the attention, none for the MLP
        model_.qkv_bias = model_.o_bias = config_.boolean_or("bias", false);
    }
  }

  // Negative means none, as in older Llama files.
  std::vector<int64_t> ids(std::string_view key) const {
    if (!config_.has(key)) return {};
    std::vector<int64_t> list = config_.integers(key, -1, model_.vocab_size - 1);
    std::erase(list, -1);
    return list;
  }
  std::optional<int64_t> id(std::string_view key) const {
    const std::vector<int64_t> list = ids(key);
    if (list.size() > 1) throw config_.error(key, "one token id");
    return list.empty() ? std::nullopt : std::optional(list[0]);
  }
  void token_ids() {
    model_.bos_token_id = id("bos_token_id");
    model_.eos_token_ids = ids("eos_token_id");
    model_.pad_token_id = id("pad_token_id");
  }

  std::optional<DType> dtype() const {
    const std::string_view key = config_.has("torch_dtype") ? "torch_dtype" : "dtype";
    if (!config_.has(key)) return std::nullopt;
    const std::string name = config_.string(key);
    if (name == "float32") return DType::kF32;
    if (name == "bfloat16") return DType::kBF16;
    if (name == "float16") return DType::kF16;
    return std::nullopt;  // only a hint: the files carry their own dtypes
  }

  const JsonReader& config_;
  ModelOptions model_;
};

}  // namespace

HfConfig parse_config_json(const nlohmann::json& document, const std::string& place) {
  return ConfigParser(JsonReader(document, place)).parse();
}

HfConfig read_config_json(const SafeDirectory& directory) {
  const File file = directory.open("config.json");
  return parse_config_json(read_json(file, {.max_bytes = 1 << 20}), file.place());
}

std::vector<int64_t> read_stop_ids(const SafeDirectory& directory, const ModelOptions& model) {
  if (!directory.has("generation_config.json")) return model.eos_token_ids;
  const File file = directory.open("generation_config.json");
  const nlohmann::json document = read_json(file, {.max_bytes = 1 << 20});
  const JsonReader reader(document, file.place());
  if (!reader.has("eos_token_id")) return model.eos_token_ids;
  std::vector<int64_t> ids = reader.integers("eos_token_id", -1, model.vocab_size - 1);
  std::erase(ids, -1);
  return ids;
}

}  // namespace ink
