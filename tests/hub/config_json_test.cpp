#include "models/hub/config_json.h"

#include <gtest/gtest.h>

#include "tests/hub/hub_fixture.h"

namespace ink {
namespace {

using nlohmann::json;
const ExitCode kBad = ExitCode::kBadInput;

json llama() {
  return json::parse(
      R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 8, "vocab_size": 257, "rms_norm_eps": 1e-05, "rope_theta": 10000.0})");
}

ModelOptions read(const json& document) { return parse_config_json(document, "config.json").model; }

json with(json document, const char* changes) {
  document.update(json::parse(changes));
  return document;
}

TEST(ConfigJson, ReadsTheGoldenModelsOfTheTree) {
  if (!golden_is_of_the_tree()) GTEST_SKIP() << kOfTheTree;
  const ModelOptions two = golden_options("internlm2");
  EXPECT_EQ(two.family, Family::kInternLM2);
  EXPECT_EQ(two.num_key_value_heads, 2);
  EXPECT_EQ(two.head_dim, 8);
  EXPECT_EQ(two.rope_theta, 1e6);
  EXPECT_EQ(two.bos_token_id, 1);
  EXPECT_EQ(two.eos_token_ids, std::vector<int64_t>{2});
  EXPECT_FALSE(two.qkv_bias || two.o_bias || two.mlp_bias || two.tie_word_embeddings);
  EXPECT_EQ(golden_options("internlm2_wide").head_dim, 16);
  EXPECT_TRUE(golden_options("internlm2_tied").tie_word_embeddings);

  const ModelOptions one = golden_options("internlm1");
  EXPECT_EQ(one.num_key_value_heads, 8);
  EXPECT_TRUE(one.qkv_bias && one.o_bias && !one.mlp_bias);
  EXPECT_EQ(one.rope_theta, 10000);
  EXPECT_EQ(one.rms_norm_eps, 1e-6);
  EXPECT_EQ(one.rope_scaling.type, RopeScalingType::kNone);

  const ModelOptions three = golden_options("internlm3");
  EXPECT_EQ(three.rope_scaling, (RopeScaling{RopeScalingType::kDynamic, 6.0, false}));
  EXPECT_EQ(three.max_position_embeddings, 32);

  const ModelOptions qwen = golden_options("qwen2_tied");
  EXPECT_TRUE(qwen.qkv_bias && !qwen.o_bias && !qwen.mlp_bias);
  for (const std::string& name : golden_models()) {
    const HfConfig config = read_config_json(SafeDirectory(golden(name)));
    EXPECT_TRUE(config.notices.empty()) << name << ": " << config.notices[0];
    EXPECT_EQ(config.dtype, DType::kF32);
  }
}

TEST(ConfigJson, AbsentKeysMeanWhatTheSpecificationSays) {
  const ModelOptions model = read(llama());
  EXPECT_EQ(model.num_key_value_heads, 8);
  EXPECT_EQ(model.head_dim, 8);
  EXPECT_FALSE(model.qkv_bias || model.o_bias || model.mlp_bias || model.tie_word_embeddings);
  EXPECT_EQ(model.rope_scaling, RopeScaling{});
  EXPECT_TRUE(model.eos_token_ids.empty() && !model.bos_token_id && !model.pad_token_id);
}

TEST(ConfigJson, NothingRequiredHasADefault) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads", "vocab_size", "rms_norm_eps", "rope_theta"}) {
    json document = llama();
    document.erase(key);
    expect_error(kBad, {std::string("config.json: ") + key, "got nothing"},
                 [&] { (void)read(document); });
  }
}

TEST(ConfigJson, ReadsTheSpellingsOfTransformersFive) {
  json document = with(
      llama(),
      R"({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "dtype": "bfloat16"})");
  document.erase("rope_theta");
  const HfConfig config = parse_config_json(document, "config.json");
  EXPECT_EQ(config.model.rope_theta, 500);
  EXPECT_EQ(config.dtype, DType::kBF16);
  EXPECT_TRUE(config.notices.empty());
  document["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 500.0}};
  EXPECT_EQ(read(document).rope_scaling, (RopeScaling{RopeScalingType::kLinear, 4.0, false}));
}

TEST(ConfigJson, ReadsOldAndNewRopeScaling) {
  const char* max =
      R"({"max_position_embeddings": 32768, "rope_scaling": {"type": "dynamic", "factor": 2.0}})";
  EXPECT_EQ(read(with(llama(), max)).rope_scaling,
            (RopeScaling{RopeScalingType::kDynamic, 2.0, false}));
  const char* both =
      R"({"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 8}, "rope_theta": 7})";
  EXPECT_EQ(read(with(llama(), both)).rope_scaling.factor, 8);
  json one =
      with(llama(),
           R"({"model_type": "internlm", "bias": true, "rotary": {"base": 10000, "type": "dynamic"},
                               "max_position_embeddings": 2048})");
  one.erase("rope_theta");
  EXPECT_EQ(read(one).rope_scaling, (RopeScaling{RopeScalingType::kDynamic, 1.0, false}));
}

TEST(ConfigJson, ArchitecturesDecideWhereModelTypeIsSilent) {
  json document = with(llama(), R"({"architectures": ["Qwen2ForCausalLM"]})");
  EXPECT_EQ(read(document).family, Family::kLlama);
  document.erase("model_type");
  EXPECT_EQ(read(document).family, Family::kQwen2);
}

TEST(ConfigJson, RefusesWhatIsNotImplemented) {
  const std::vector<std::pair<const char*, std::vector<std::string>>> cases = {
      {R"({"model_type": "gpt2"})", {"model_type", "internlm2", "\"gpt2\""}},
      {R"({"model_type": "internlm_moe", "num_experts": 4})", {"model_type", "internlm_moe"}},
      {R"({"hidden_act": "gelu"})", {"hidden_act", "silu", "\"gelu\""}},
      {R"({"sliding_window": 4096})", {"sliding_window", "4096"}},
      {R"({"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 4096})",
       {"use_sliding_window"}},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4}})",
       {"rope_scaling.rope_type", "\"yarn\""}},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 4, "low_freq_factor": 1}})",
       {"rope_scaling.low_freq_factor"}},
      {R"({"rope_scaling": {"type": "dynamic", "factor": 2}})", {"max_position_embeddings"}},
      {R"({"rope_scaling": {"type": "linear"}})", {"rope_scaling.factor"}},
      {R"({"rope_scaling": {"type": "linear", "factor": 0.5}})", {"rope_scaling.factor", "0.5"}},
      {R"({"rope_parameters": {"rope_theta": 5.0}})", {"rope_parameters.rope_theta", "10000"}},
      {R"({"rope_interleaved": true})", {"rope_interleaved"}},
      {R"({"partial_rotary_factor": 0.5})", {"partial_rotary_factor"}},
      {R"({"attention_dropout": 0.1})", {"attention_dropout"}},
      {R"({"layer_types": ["full_attention", "sliding_attention"]})", {"layer_types"}},
      {R"({"quantization_config": {"quant_method": "awq"}})", {"quantization_config"}},
      {R"({"num_key_value_heads": 3})", {"num_key_value_heads", "8"}},
      {R"({"num_attention_heads": 7})", {"num_attention_heads", "64"}},
      {R"({"head_dim": 7})", {"head_dim", "even"}},
      {R"({"hidden_size": -1})", {"hidden_size", "-1"}},
      {R"({"hidden_size": 64.0})", {"hidden_size", "64.0"}},
      {R"({"num_hidden_layers": 1000000000})", {"num_hidden_layers"}},
      {R"({"rms_norm_eps": 0})", {"rms_norm_eps"}},
      {R"({"rope_theta": "1e6"})", {"rope_theta", "string"}},
      {R"({"tie_word_embeddings": 1})", {"tie_word_embeddings"}},
      {R"({"eos_token_id": 257})", {"eos_token_id", "257"}},
      {R"({"eos_token_id": [2, -7]})", {"eos_token_id"}},
      {R"({"bos_token_id": [1, 2]})", {"bos_token_id"}},
  };
  for (const auto& [changes, words] : cases) {
    SCOPED_TRACE(changes);
    std::vector<std::string> all = words;
    all.push_back("config.json: ");
    expect_error(kBad, all, [&, &changes = changes] { (void)read(with(llama(), changes)); });
  }
}

// Controls: the same fields with the value that changes nothing.
TEST(ConfigJson, AcceptsNeutralValuesAndNamesUnknownFields) {
  const HfConfig config = parse_config_json(
      with(
          llama(),
          R"({"hidden_act": "silu", "sliding_window": null, "attention_dropout": 0.0, "mlp_bias": true,
                        "rope_interleaved": false, "layer_types": ["full_attention", "full_attention"],
                        "rope_scaling": null, "quantization_config": null, "pad_token_id": -1, "eos_token_id": [2, 5],
                        "future_field": 3, "auto_map": {"AutoModel": "x.Y"}})"),
      "config.json");
  EXPECT_TRUE(config.model.mlp_bias);
  EXPECT_EQ(config.model.eos_token_ids, (std::vector<int64_t>{2, 5}));
  EXPECT_FALSE(config.model.pad_token_id);
  ASSERT_EQ(config.notices.size(), 2u);
  EXPECT_NE(config.notices[0].find("\"future_field\""), std::string::npos);
  EXPECT_NE(config.notices[1].find("auto_map"), std::string::npos);
  const char* qwen =
      R"({"model_type": "qwen2", "sliding_window": 32768, "use_sliding_window": false, "max_window_layers": 21})";
  EXPECT_NO_THROW((void)read(with(llama(), qwen)));
}

TEST(ConfigJson, StopIdsComeFromTheGenerationConfig) {
  const TemporaryFolder folder;
  ModelOptions model = read(llama());
  model.eos_token_ids = {2};
  EXPECT_EQ(read_stop_ids(SafeDirectory(folder.path()), model), std::vector<int64_t>{2});
  folder.write("generation_config.json", R"({"eos_token_id": [2, 92]})");
  EXPECT_EQ(read_stop_ids(SafeDirectory(folder.path()), model), (std::vector<int64_t>{2, 92}));
  folder.write("generation_config.json", R"({"eos_token_id": 300})");
  expect_error(kBad, {"generation_config.json: eos_token_id", "300"},
               [&] { (void)read_stop_ids(SafeDirectory(folder.path()), model); });
}

// The numbers of a model survive; the family becomes the public class.
TEST(ConfigJson, WritesWhatItReads) {
  for (const std::string& name : golden_models()) {
    SCOPED_TRACE(name);
    ModelOptions model = golden_options(name);
    const HfClass hf_class = default_hf_class(model.family);
    const std::string text = write_config_json(model, hf_class, DType::kBF16).dump();
    const HfConfig back = parse_config_json(json::parse(text), "config.json");
    model.family = hf_class == HfClass::kQwen2 ? Family::kQwen2 : Family::kLlama;
    EXPECT_EQ(back.model, model);
    EXPECT_EQ(back.dtype, DType::kBF16);
    EXPECT_TRUE(back.notices.empty());
  }
  const ModelOptions two = golden_options("internlm2");
  EXPECT_EQ(read(json::parse(write_config_json(two, HfClass::kInternLM2, DType::kF32).dump())),
            two);
}

TEST(ConfigJson, RefusesClassesThatCannotExpressTheModel) {
  const ExitCode usage = ExitCode::kConfig;
  // The public InternLM2 class derives head_dim.
  ModelOptions wide = golden_options("internlm2");
  wide.head_dim *= 2;
  const std::string sizes =
      fmt::format("{} * {} and {}", wide.num_attention_heads, wide.head_dim, wide.hidden_size);
  expect_error(usage, {"export as internlm2", "heads * head_dim", sizes},
               [&] { (void)write_config_json(wide, HfClass::kInternLM2, DType::kF32); });
  expect_error(usage, {"export as llama", "o_bias false"}, [] {
    (void)write_config_json(golden_options("qwen2_tied"), HfClass::kLlama, DType::kF32);
  });
  expect_error(usage, {"export as qwen2", "qkv_bias false"}, [] {
    (void)write_config_json(golden_options("llama_tied"), HfClass::kQwen2, DType::kF32);
  });
}

}  // namespace
}  // namespace ink
