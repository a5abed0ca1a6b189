#include "models/hub/import.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/hub/hub_fixture.h"

namespace ink {
namespace {

const ExitCode kBad = ExitCode::kBadInput;

// A directory with the tensors of a golden model, changed before they are written.
template <class Change>
void write_changed(const TemporaryFolder& folder, std::string_view name, Change&& change) {
  std::vector<TestTensor> tensors = golden_tensors(name);
  change(tensors);
  write_tensors(folder / "model.safetensors", tensors);
}

void remove(std::vector<TestTensor>& tensors, std::string_view name) {
  std::erase_if(tensors, [&](const TestTensor& t) { return t.name == name; });
}

TEST(Import, FillsEveryParameterOfTheGoldenModels) {
  for (const std::string& name : golden_models()) {
    SCOPED_TRACE(name);
    const ModelOptions model = golden_options(name);
    TestWeights weights(model, DType::kF32);
    const HfDirectory directory(golden(name));
    EXPECT_TRUE(load_weights(directory, model, weights.span()).empty());
    // Both sides spell the layout alike, so each parameter is one tensor, byte for byte.
    const std::map<std::string, std::string> expected = tensor_bytes(golden(name)),
                                             loaded = weights.bytes();
    for (const ParameterMap& map : hf_parameter_maps(model, directory.names())) {
      ASSERT_EQ(map.slices.size(), 1u);
      EXPECT_EQ(loaded.at(map.name), expected.at(map.slices[0].hf_name)) << map.name;
    }
  }
}

TEST(Import, ConvertsToEveryFloatType) {
  const ModelOptions model = golden_options("llama_tied");
  const HfDirectory directory(golden("llama_tied"));
  TestWeights exact(model, DType::kF32);
  load_weights(directory, model, exact.span());
  for (const DType dtype : {DType::kF64, DType::kBF16, DType::kF16}) {
    TestWeights weights(model, dtype);
    load_weights(directory, model, weights.span());
    for (const NamedTensor& weight : weights.span()) {
      const float* from = exact.at(weight.name).data<float>();
      for (int64_t i = 0; i < weight.value.numel(); ++i) {
        if (dtype == DType::kF64) {
          ASSERT_EQ(weight.value.data<double>()[i], double{from[i]});
        }
        if (dtype == DType::kBF16) {
          ASSERT_EQ(weight.value.data<bf16>()[i].bits, bf16(from[i]).bits);
        }
        if (dtype == DType::kF16) {
          ASSERT_EQ(weight.value.data<f16>()[i].bits, f16(from[i]).bits);
        }
      }
    }
  }
}

TEST(Import, ReadsFilesOfEveryFloatType) {
  const ModelOptions model = golden_options("internlm2");
  TestWeights weights(model, DType::kF32);
  weights.count_up();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const TemporaryFolder folder;
    write_hf(folder / "out", model, weights.span(), {.dtype = dtype});
    TestWeights back(model, DType::kF32);
    load_weights(HfDirectory(folder / "out"), model, back.span());
    EXPECT_EQ(back.bytes(), weights.bytes()) << name_of(dtype);
  }
}

TEST(Import, ListsMissingExtraAndMisshapenTensors) {
  const ModelOptions model = golden_options("internlm2");
  const TemporaryFolder folder;
  write_changed(folder, "internlm2", [](std::vector<TestTensor>& tensors) {
    remove(tensors, "output.weight");
    tensors.push_back({"model.surprise", {1}, {0}});
    TestTensor& norm = tensor_named(tensors, "model.norm.weight");
    norm.shape = {norm.shape.dim(0) / 2, 2};
  });
  TestWeights weights(model, DType::kF32);
  weights.count_up();
  const auto before = weights.bytes();
  expect_error(
      kBad,
      {"1 missing (\"output.weight\")", "1 extra (\"model.surprise\")", "1 of another shape",
       fmt::format("\"model.norm.weight\": expected [{}], got [{}, 2]", model.hidden_size,
                   model.hidden_size / 2)},
      [&] { load_weights(HfDirectory(folder.path()), model, weights.span()); });
  EXPECT_EQ(weights.bytes(), before);
}

TEST(Import, NamesTheFirstTenOfMany) {
  const TemporaryFolder folder;
  write_changed(folder, "internlm2", [](std::vector<TestTensor>& tensors) {
    std::erase_if(tensors,
                  [](const TestTensor& t) { return t.name.find("layers.") != std::string::npos; });
  });
  const size_t missing = golden_tensors("internlm2").size() - 3;
  if (missing <= 10) GTEST_SKIP() << "the golden model has one layer";
  expect_error(kBad, {fmt::format("{} missing (", missing), "layers.1.attention_norm", ", ...)"},
               [&] { check_import(HfDirectory(folder.path()), golden_options("internlm2")); });
}

TEST(Import, AllowMissingKeepsInitialValuesAndSaysSo) {
  const ModelOptions model = golden_options("internlm2");
  const TemporaryFolder folder;
  write_changed(folder, "internlm2", [](auto& tensors) { remove(tensors, "output.weight"); });
  TestWeights weights(model, DType::kF32);
  weights.count_up();
  const auto before = weights.bytes();
  const HfDirectory directory(folder.path());
  expect_error(kBad, {"output.weight"},
               [&] { check_import(directory, model, {.allow_missing = {"model.*"}}); });
  const Notices notices =
      load_weights(directory, model, weights.span(), {.allow_missing = {"out*"}});
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_NE(notices[0].find("output.weight"), std::string::npos);
  EXPECT_EQ(weights.bytes().at("head.weight"), before.at("head.weight"));
  EXPECT_NE(weights.bytes().at("norm.weight"), before.at("norm.weight"));
}

TEST(Import, ATiedModelTakesACopyOfTheEmbeddingOnly) {
  const ModelOptions model = golden_options("llama_tied");
  const auto with_head = [&](float difference) {
    auto folder = std::make_unique<TemporaryFolder>();
    write_changed(*folder, "llama_tied", [&](std::vector<TestTensor>& tensors) {
      TestTensor head = tensor_named(tensors, "model.embed_tokens.weight");
      head.name = "lm_head.weight";
      head.values.back() += difference;
      tensors.push_back(head);
    });
    return folder;
  };
  const auto same = with_head(0), different = with_head(1);
  EXPECT_NO_THROW(check_import(HfDirectory(same->path()), model));
  expect_error(kBad, {"lm_head.weight", "tie_word_embeddings"},
               [&] { check_import(HfDirectory(different->path()), model); });
}

TEST(Import, RefusesValuesThatAreNotFinite) {
  const std::string name = "layers.0.attention.wqkv.weight";
  const ModelOptions model = golden_options("internlm2");
  const TemporaryFolder folder;
  write_changed(folder, "internlm2", [&](std::vector<TestTensor>& tensors) {
    TestTensor& wqkv = tensor_named(tensors, "model." + name);
    wqkv.values[7] = std::numeric_limits<float>::quiet_NaN();
    wqkv.values[8] = -std::numeric_limits<float>::infinity();
  });
  const HfDirectory directory(folder.path());
  TestWeights weights(model, DType::kF32);
  expect_error(kBad, {name, fmt::format("2 of {}", weights.at(name).numel()), "NaN"},
               [&] { load_weights(directory, model, weights.span()); });
  const Notices notices = load_weights(directory, model, weights.span(), {.allow_nonfinite = true});
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_TRUE(std::isnan(weights.at(name).data<float>()[7]));
}

TEST(Import, RefusesValuesThatOverflowTheParameterType) {
  const ModelOptions model = golden_options("internlm2");
  const TemporaryFolder folder;
  write_changed(folder, "internlm2",
                [](auto& tensors) { tensor_named(tensors, "model.norm.weight").values[0] = 1e5f; });
  TestWeights weights(model, DType::kF16);
  expect_error(kBad, {"model.norm.weight", "infinite as f16"},
               [&] { load_weights(HfDirectory(folder.path()), model, weights.span()); });
}

TEST(Import, IgnoresRotaryBuffers) {
  const TemporaryFolder folder;
  write_changed(folder, "llama_tied", [](std::vector<TestTensor>& tensors) {
    tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {4}, {1, 2, 3, 4}});
  });
  EXPECT_NO_THROW(check_import(HfDirectory(folder.path()), golden_options("llama_tied")));
}

TEST(Import, RefusesForeignTypes) {
  const TemporaryFolder folder;
  std::vector<SafetensorsSpec> specs;
  const std::vector<TestTensor> tensors = golden_tensors("llama_tied");
  for (const TestTensor& t : tensors)
    specs.push_back({t.name, t.name == "model.norm.weight" ? DType::kI32 : DType::kF32, t.shape});
  SafetensorsWriter writer(folder / "model.safetensors", specs);
  for (const TestTensor& t : tensors) writer.write(t.name, std::as_bytes(std::span(t.values)));
  (void)writer.finish();
  expect_error(kBad, {"1 of a dtype not supported", "\"model.norm.weight\": expected F32", "I32"},
               [&] { check_import(HfDirectory(folder.path()), golden_options("llama_tied")); });
}

}  // namespace
}  // namespace ink
