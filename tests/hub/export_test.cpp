#include "models/hub/export.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "engine/io/sha256.h"
#include "models/hub/describe.h"
#include "tests/hub/hub_fixture.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename()] = sha256_of(File::open(entry.path()));
  }
  return files;
}

// Import, export as the default class, import again under the family the export says it is, and
// back into the first model: every tensor bit for bit.
TEST(Export, RoundTripsTheGoldenModelsBitForBit) {
  for (const std::string& name : golden_models()) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    const ModelOptions model = golden_options(name);
    TestWeights first(model, DType::kF32);
    load_weights(HfDirectory(golden(name)), model, first.span());
    const ExportReport report =
        write_hf(folder / "out", model, first.span(), {.dtype = DType::kF32});
    ASSERT_EQ(report.weight_files.size(), 1u);
    EXPECT_EQ(report.weight_files[0].sha256,
              sha256_of(File::open(folder / "out/model.safetensors")));

    const HfDirectory exported(folder / "out");
    TestWeights same_model(model, DType::kF32);
    load_weights(exported, model, same_model.span());
    EXPECT_EQ(same_model.bytes(), first.bytes());

    const ModelOptions other = read_config_json(exported.files()).model;
    TestWeights as_exported(other, DType::kF32);
    load_weights(exported, other, as_exported.span());
    write_hf(folder / "again", other, as_exported.span(), {.dtype = DType::kF32});
    EXPECT_EQ(tensor_bytes(folder / "again"), tensor_bytes(folder / "out"));
    if (model.family != Family::kInternLM2) {
      EXPECT_EQ(tensor_bytes(folder / "out"), tensor_bytes(golden(name)));
    }
  }
}

// Un-grouping moves whole rows: the sorted rows of q, k and v are those of wqkv.
TEST(Export, UngroupingIsAPermutationOfRows) {
  const TemporaryFolder folder;
  const ModelOptions model = golden_options("internlm2_wide");
  TestWeights weights(model, DType::kF32);
  load_weights(HfDirectory(golden("internlm2_wide")), model, weights.span());
  write_hf(folder / "out", model, weights.span(), {.dtype = DType::kF32});
  const auto rows_of = [&](const std::string& bytes, std::multiset<std::string>& rows) {
    const size_t width = static_cast<size_t>(model.hidden_size) * sizeof(float);
    for (size_t i = 0; i < bytes.size(); i += width) rows.insert(bytes.substr(i, width));
  };
  const auto before = tensor_bytes(golden("internlm2_wide")), after = tensor_bytes(folder / "out");
  std::multiset<std::string> fused, separate;
  rows_of(before.at("model.layers.0.attention.wqkv.weight"), fused);
  for (const char* part : {"q", "k", "v"}) {
    rows_of(after.at(fmt::format("model.layers.0.self_attn.{}_proj.weight", part)), separate);
  }
  EXPECT_EQ(fused, separate);
  // A group of the fused rows is its query heads, then k and v; k of the last group is the last of
  // k.
  const int64_t group = model.num_attention_heads / model.num_key_value_heads + 2;
  const auto last = static_cast<size_t>(model.num_key_value_heads - 1);
  const auto k_row = static_cast<size_t>((model.num_key_value_heads * group - 2) * model.head_dim);
  const size_t width = static_cast<size_t>(model.hidden_size) * sizeof(float);
  const size_t head = static_cast<size_t>(model.head_dim) * width;
  EXPECT_EQ(after.at("model.layers.0.self_attn.k_proj.weight").substr(last * head, width),
            before.at("model.layers.0.attention.wqkv.weight").substr(k_row * width, width));
}

TEST(Export, IsByteIdenticalAndCutsShards) {
  const TemporaryFolder folder;
  const ModelOptions model = golden_options("internlm2");
  TestWeights weights(model, DType::kBF16);
  weights.count_up();
  // The largest tensor fills a shard; embedding and head, or the three of an MLP, need one each.
  const auto shard = static_cast<uint64_t>(2 * model.hidden_size *
                                           std::max(model.vocab_size, model.intermediate_size));
  const ExportOptions small{.max_shard_bytes = shard};
  const ExportReport report = write_hf(folder / "a", model, weights.span(), small);
  write_hf(folder / "b", model, weights.span(), small);
  write_hf(folder / "whole", model, weights.span());
  EXPECT_EQ(files_in(folder / "a"), files_in(folder / "b"));
  EXPECT_GE(report.weight_files.size(), 3u);
  EXPECT_EQ(report.weight_files[0].name,
            fmt::format("model-00001-of-{:05}.safetensors", report.weight_files.size()));
  for (const auto& file : report.weight_files) EXPECT_LE(file.bytes, shard + 4096u);
  EXPECT_EQ(tensor_bytes(folder / "a"), tensor_bytes(folder / "whole"));
  EXPECT_TRUE(HfDirectory(folder / "a").notices().empty());
}

TEST(Export, WritesConfigStopIdsAndMore) {
  const TemporaryFolder folder;
  const ModelOptions model = golden_options("internlm2");
  TestWeights weights(model, DType::kF32);
  write_hf(folder / "out", model, weights.span(),
           {.stop_ids = {2, 92}, .write_more = [](const fs::path& directory) {
              std::ofstream(directory / "tokenizer.model") << "pieces";
            }});
  const SafeDirectory files(folder / "out");
  EXPECT_EQ(files.names(), (std::vector<std::string>{"config.json", "generation_config.json",
                                                     "model.safetensors", "tokenizer.model"}));
  const HfConfig config = read_config_json(files);
  EXPECT_EQ(config.model.family, Family::kLlama);
  EXPECT_EQ(config.dtype, DType::kBF16);
  EXPECT_EQ(read_stop_ids(files, config.model), (std::vector<int64_t>{2, 92}));
}

TEST(Export, NothingIsPublishedOnFailure) {
  const TemporaryFolder folder;
  const ModelOptions model = golden_options("internlm2");
  TestWeights weights(model, DType::kF32);
  const auto fail = [&](Existing existing) {
    write_hf(folder / "out", model, weights.span(),
             {.existing = existing,
              .write_more = [](const fs::path&) { throw Error(ExitCode::kIo, "x", "y"); }});
  };
  EXPECT_THROW(fail(Existing::kRefuse), Error);
  EXPECT_TRUE(fs::is_empty(folder.path()));
  write_hf(folder / "out", model, weights.span());
  const auto before = files_in(folder / "out");
  EXPECT_THROW(fail(Existing::kReplace), Error);
  EXPECT_EQ(files_in(folder / "out"), before);
  expect_error(ExitCode::kIo, {"out", "exists"},
               [&] { write_hf(folder / "out", model, weights.span()); });
}

TEST(Export, WritesInternLM2NamesWithTheCodeOfABase) {
  const TemporaryFolder folder;
  const ModelOptions model = golden_options("internlm2");
  TestWeights weights(model, DType::kF32);
  load_weights(HfDirectory(golden("internlm2")), model, weights.span());
  const auto run = [&](const fs::path& base, const char* out) {
    write_hf(folder / out, model, weights.span(),
             {.hf_class = HfClass::kInternLM2, .dtype = DType::kF32, .remote_code_from = base});
  };
  const ExitCode usage = ExitCode::kConfig;
  expect_error(usage, {"internlm2", "base directory"}, [&] { run({}, "1"); });
  expect_error(usage, {"auto_map"}, [&] { run(golden("internlm2"), "1"); });
  folder.write(
      "base/config.json",
      R"({"auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"}})");
  expect_error(usage, {"modeling_internlm2.py"}, [&] { run(folder / "base", "1"); });
  EXPECT_FALSE(fs::exists(folder / "1"));
  folder.write("base/modeling_internlm2.py", "code");
  run(folder / "base", "2");
  EXPECT_EQ(tensor_bytes(folder / "2"), tensor_bytes(golden("internlm2")));
  EXPECT_EQ(read_text(folder / "2/modeling_internlm2.py", 99), "code");
  EXPECT_EQ(read_json(folder / "2/config.json")["auto_map"]["AutoModelForCausalLM"],
            "modeling_internlm2.InternLM2ForCausalLM");
  EXPECT_EQ(read_config_json(SafeDirectory(folder / "2")).model, model);
}

TEST(Export, SaysWhichValuesF16CannotHold) {
  const TemporaryFolder folder;
  const ModelOptions model = golden_options("internlm2");
  TestWeights weights(model, DType::kF32);
  weights.at("norm.weight").data<float>()[3] = 70'000;
  expect_error(ExitCode::kConfig, {"f16", "65504", "70000", "model.norm.weight"},
               [&] { write_hf(folder / "a", model, weights.span(), {.dtype = DType::kF16}); });
  const ExportReport report = write_hf(folder / "b", model, weights.span());
  ASSERT_EQ(report.notices.size(), 1u);
  EXPECT_NE(report.notices[0].find("beyond the range of f16"), std::string::npos);
}

TEST(Describe, TellsWhatAFileAndADirectoryHold) {
  const auto file = describe(golden("internlm2") / "model.safetensors", DescribeMode::kVerify);
  EXPECT_EQ(file["kind"], "safetensors");
  EXPECT_EQ(file["tensors"].size(), HfDirectory(golden("internlm2")).tensors().size());
  EXPECT_EQ(file["dtypes"]["F32"], file["parameters"]);
  EXPECT_EQ(file["verified"], true);
  const auto directory = describe(golden("internlm2"), DescribeMode::kVerify);
  EXPECT_EQ(directory["kind"], "huggingface");
  EXPECT_EQ(directory["model"]["family"], "internlm2");
  EXPECT_EQ(directory["model"]["parameters"], directory["parameters"]);
  EXPECT_EQ(directory["names"], "internlm2");
  EXPECT_EQ(directory["stop_ids"], nlohmann::ordered_json::array({2}));
  EXPECT_FALSE(describe(golden("internlm2")).contains("verified"));
}

TEST(Describe, VerifyJudgesAsTrainingDoes) {
  const TemporaryFolder folder;
  std::vector<TestTensor> tensors = golden_tensors("internlm2");
  tensor_named(tensors, "model.norm.weight").values[0] = std::numeric_limits<float>::infinity();
  write_tensors(folder / "model.safetensors", tensors);
  fs::copy_file(golden("internlm2") / "config.json", folder / "config.json");
  EXPECT_NO_THROW((void)describe(folder.path()));
  for (const fs::path& path : {folder.path(), folder / "model.safetensors"}) {
    expect_error(ExitCode::kBadInput,
                 {"model.norm.weight",
                  fmt::format("1 of {}", tensor_named(tensors, "model.norm.weight").values.size())},
                 [&] { (void)describe(path, DescribeMode::kVerify); });
  }
}

}  // namespace
}  // namespace ink
