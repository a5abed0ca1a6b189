// Shapes of the published models, and what may be said about a checkpoint's.
#include "configs/schema/model_options.h"

#include <gtest/gtest.h>

#include "tests/configs/config_case.h"

namespace ink {
namespace {

ModelOptions shape(const std::string& name, const std::vector<std::string>& overrides = {}) {
  const std::string path = std::string(INKSTONE_SOURCE_DIR) + "/configs/models/" + name + ".yaml";
  return resolve_model(read_run(read_merged(path, overrides)).options.model);
}

struct Published {
  std::string name;
  std::vector<std::string> overrides;
  int64_t total, matmul;
};

// Totals include biases and norms. The InternLM rows are those of the reports' shapes; SmolLM2 and
// Qwen2 are the counts of the released checkpoints.
TEST(ParameterCount, MatchesPublishedModels) {
  const Published models[] = {
      {"internlm_7b", {}, 7'321'948'160, 6'898'581'504},
      {"internlm_7b_8k", {}, 7'321'948'160, 6'898'581'504},
      {"internlm_20b", {}, 20'088'714'240, 19'559'874'560},
      {"internlm_20b", {"model.attention_bias=true"}, 20'089'943'040, 19'559'874'560},
      {"internlm2_1_8b", {}, 1'889'110'016, 1'699'479'552},
      {"internlm2_7b", {}, 7'737'708'544, 7'358'382'080},
      {"internlm2_20b", {}, 19'861'149'696, 19'291'963'392},
      {"internlm2_5_1_8b", {}, 1'889'110'016, 1'699'479'552},
      {"internlm2_5_7b", {}, 7'737'708'544, 7'358'382'080},
      {"internlm2_5_7b_1m", {}, 7'737'708'544, 7'358'382'080},
      {"internlm2_5_20b", {}, 19'861'149'696, 19'291'963'392},
      {"internlm3_8b", {}, 8'804'241'408, 8'277'458'944},
      {"smollm2_135m", {}, 134'515'008, 134'479'872},
      {"qwen2_0_5b", {}, 494'032'768, 493'961'216},
  };
  for (const Published& model : models) {
    EXPECT_EQ(parameter_count(shape(model.name, model.overrides)), model.total) << model.name;
    EXPECT_EQ(matmul_parameter_count(shape(model.name, model.overrides)), model.matmul)
        << model.name;
  }
}

TEST(ParameterCount, TinyModelFitsItsPurpose) {
  EXPECT_GT(parameter_count(shape("internlm2_tiny")), 5'000'000);
  EXPECT_LT(parameter_count(shape("internlm2_tiny")), 10'000'000);
}

// 7B, length 2048: 43.0 GFLOP a token with causal attention (6N + 6*L*h*s).
TEST(TrainingFlops, CausalCountOfInternLM7B) {
  const double flops = training_flops(shape("internlm_7b"), 2048, 2048.0 * 2048.0);
  EXPECT_NEAR(flops / 2048 / 1e9, 43.0, 0.05);
}

TEST(ResolveModel, DerivesAndChecks) {
  ModelOptions model = shape("internlm2_7b");
  EXPECT_EQ(model.head_dim, 128);
  EXPECT_EQ(model.rope_scaling.type, RopeScalingType::kDynamic);
  EXPECT_FALSE(model.rope_scaling.in_training);
  EXPECT_FALSE(model.qkv_bias || model.o_bias || model.mlp_bias || model.tie_word_embeddings);
  EXPECT_TRUE(shape("internlm_7b").qkv_bias && shape("internlm_7b").o_bias);
  EXPECT_TRUE(shape("qwen2_0_5b").qkv_bias);
  EXPECT_FALSE(shape("qwen2_0_5b").o_bias);
  EXPECT_TRUE(shape("qwen2_0_5b").tie_word_embeddings);

  EXPECT_NE(error_line([] {
              shape("internlm2_7b", {"model.num_key_value_heads=5"});
            }).find("expected a divisor of num_attention_heads 32, got 5"),
            std::string::npos);
  EXPECT_NE(error_line([] {
              shape("internlm2_7b", {"model.num_attention_heads=30"});
            }).find("hidden_size 4096 / num_attention_heads 30 is no integer"),
            std::string::npos);
  EXPECT_NE(error_line([] {
              shape("internlm2_7b", {"model.rope_theta=null"});
            }).find("model.rope_theta: expected a value"),
            std::string::npos);
  EXPECT_NE(error_line([] {
              shape("internlm_7b", {"model.attention_bias=null"});
            }).find("model.attention_bias: expected a value"),
            std::string::npos);
  EXPECT_NE(error_line([] {
              shape("internlm2_7b", {"model.rope_scaling={factor: 2}"});
            }).find("expected a type beside it, got factor 2 and type none"),
            std::string::npos);
}

TEST(OverruleModel, AContradictionNamesBothValues) {
  const ModelOptions checkpoint = shape("internlm2_7b");
  ModelSection keys;
  EXPECT_EQ(overrule_model(keys, checkpoint, "config.json"), checkpoint);
  keys.rope_scaling = RopeScaling{.type = RopeScalingType::kLinear, .factor = 4};
  keys.dropout = 0.1;
  keys.hidden_size = 4096;
  const ModelOptions changed = overrule_model(keys, checkpoint, "config.json");
  EXPECT_EQ(changed.rope_scaling.factor, 4);
  EXPECT_EQ(changed.dropout, 0.1);
  const auto error = [&] {
    return error_line([&] { overrule_model(keys, checkpoint, "hf/config.json"); });
  };
  keys.rope_theta = 10000;
  EXPECT_EQ(error(),
            "error[2]: model.rope_theta: expected 1000000 as in hf/config.json, "
            "got 10000");
  keys.rope_theta.reset();
  keys.family = Family::kLlama;
  EXPECT_EQ(error(),
            "error[2]: model.family: expected internlm2 as in hf/config.json, got "
            "llama");
  keys.family.reset();
  keys.tie_word_embeddings = true;
  EXPECT_NE(error().find("expected false as in hf/config.json, got true"), std::string::npos);
}

}  // namespace
}  // namespace ink
