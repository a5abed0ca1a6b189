// Model directories and weight files that are refused: code 3 from every verb, nothing published.

#include <cstring>

#include "tests/cli/inkstone_run.h"
#include "tests/support/golden_folder.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

std::string golden(const std::string& name) { return golden_folder(name).string(); }

std::string safetensors(const std::string& header, const std::string& data = {}) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

// A copy of a golden model that a test may damage.
class ModelError : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(place_ / "model");
    for (const char* name : {"config.json", "model.safetensors"})
      fs::copy_file(golden("internlm2") + "/" + name, place_ / "model" / name);
    config_ = nlohmann::json::parse(slurp(place_ / "model/config.json"));
    weights_ = slurp(place_ / "model/model.safetensors");
    place_.write_run("train: {steps: 1}");
  }

  // As generate, export, inspect --verify and train judge it; no output appears.
  void expect_refused(const std::vector<std::string>& words) {
    const auto before = files_below(place_.path());
    expect_error(place_.run({"inspect", "model", "--verify"}), 3, words);
    expect_error(place_.run({"generate", "--model", "model", "--ids", "1"}), 3, words);
    expect_error(place_.run({"export", "hf", "--in", "model", "--out", "made"}), 3, words);
    place_.write("tune.yaml",
                 "model: {path: model}\ndata: {train: [{synthetic: {documents: 8, length: 40}}], "
                 "max_length: 32}\ntrain: {steps: 1}\n");
    expect_error(place_.run({"train", "tune.yaml", "--out", "made-run"}), 3, words);
    fs::remove(place_ / "tune.yaml");
    fs::remove_all(place_ / "made-run");  // the lock and cache of the refused run
    EXPECT_EQ(files_below(place_.path()), before);
  }
  void write_config() { place_.write("model/config.json", config_.dump()); }

  Workplace place_;
  nlohmann::json config_;
  std::string weights_;
};

TEST_F(ModelError, ControlsAreAccepted) {
  for (const char* name : {"internlm1", "internlm2", "internlm3", "llama_tied", "qwen2_tied"}) {
    expect_done(place_.run({"inspect", golden(name), "--verify"}));
    expect_done(place_.run({"generate", "--model", golden(name), "--ids", "1 2 3",
                            "--max-new-tokens", "2", "--json"}));
  }
  const std::string odd = R"({"a":{"shape":[],"data_offsets":[0,4],"dtype":"F32"},)"
                          R"("b":{"dtype":"F8_E4M3","shape":[2,0],"data_offsets":[4,4]}}   )";
  place_.write("odd.safetensors", safetensors(odd, std::string(4, '\0')));
  expect_done(place_.run({"inspect", "odd.safetensors", "--verify"}));
}

TEST_F(ModelError, MalformedFiles) {
  const std::string entry = R"({"a":{"dtype":"F32","shape":[4],"data_offsets":)";
  const std::string data(16, '\0');
  const std::vector<std::string> files = {
      "",
      "1234567",
      std::string(8, '\xff') + "{}",
      std::string("\xff\xff\xff\x7f\0\0\0\0{}", 10),
      std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10),
      safetensors("\xff"),
      safetensors("{"),
      safetensors(std::string(1'000'000, '[')),
      safetensors(entry + "[16,0]}}", data),
      safetensors(entry + "[-16,0]}}", data),
      safetensors(entry + "[0.0,16.0]}}", data),
      safetensors(entry + "[0,1.6e1]}}", data),
      safetensors(entry + "[0,32]}}", data),
      safetensors(entry + "[4,20]}}", data + "1234"),
      safetensors(entry + R"([0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                  data),
      safetensors(entry + R"([0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                  data),
      "PK\x03\x04 a zip",
      "\x80\x02\x63posix\nsystem\n",
      "<!DOCTYPE html><html>",
      "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"};
  for (const std::string& bytes : files) {
    place_.write("bad.safetensors", bytes);
    expect_error(place_.run({"inspect", "bad.safetensors"}), 3, {"bad.safetensors"});
  }
}

TEST_F(ModelError, PicklesAreRefusedNotRead) {
  fs::remove(place_ / "model/model.safetensors");
  place_.write("model/pytorch_model.bin", "cposix\nsystem\n(S'touch canary'\ntR.");
  expect_refused({"model"});
  EXPECT_FALSE(fs::exists(place_ / "canary"));
}

TEST_F(ModelError, TruncatedWeights) {
  place_.write("model/model.safetensors", weights_.substr(0, weights_.size() - 1));
  expect_refused({"model.safetensors"});
}

TEST_F(ModelError, WeightsOfAnotherShape) {
  config_["intermediate_size"] = config_["intermediate_size"].get<int>() + 8;
  write_config();
  expect_refused({"feed_forward"});
}

TEST_F(ModelError, TensorMissing) {
  const size_t at = weights_.find("model.norm.weight");
  ASSERT_NE(at, std::string::npos);
  std::string renamed = weights_;
  renamed.replace(at, 17, "model.nomr.weight");
  place_.write("model/model.safetensors", renamed);
  expect_refused({"model.norm.weight"});
}

TEST_F(ModelError, ValuesThatAreNotFinite) {
  // The last four bytes belong to one f32 weight.
  std::string spoilt = weights_;
  spoilt.replace(spoilt.size() - 4, 4, std::string("\x00\x00\xc0\x7f", 4));
  place_.write("model/model.safetensors", spoilt);
  expect_refused({"finite"});
}

TEST_F(ModelError, ConfigJson) {
  const nlohmann::json good = config_;
  for (const char* key : {"hidden_size", "num_hidden_layers", "vocab_size", "rms_norm_eps",
                          "rope_theta", "model_type"}) {
    config_ = good;
    config_.erase(key);
    if (std::string(key) == "model_type") config_.erase("architectures");
    write_config();
    expect_error(place_.run({"inspect", "model"}), 3, {"config.json"});
  }
  config_ = good;
  config_["hidden_act"] = "gelu";
  write_config();
  expect_refused({"config.json", "hidden_act", "gelu"});
  place_.write("model/config.json", "{\"a\": 1, \"a\": 2}");
  expect_refused({"config.json"});
  fs::remove(place_ / "model/config.json");
  expect_refused({"config.json"});
}

TEST_F(ModelError, ShardsOutsideOfTheDirectory) {
  fs::rename(place_ / "model/model.safetensors", place_ / "outside.safetensors");
  for (const char* name : {"../outside.safetensors", "/etc/passwd", "a/b", ""}) {
    const nlohmann::json index{{"metadata", {{"total_size", 4}}},
                               {"weight_map", {{"model.norm.weight", name}}}};
    place_.write("model/model.safetensors.index.json", index.dump());
    expect_error(place_.run({"inspect", "model"}), 3, {"model.norm.weight"});
  }
  place_.write("model/model.safetensors.index.json",
               R"({"weight_map": {"model.norm.weight": "absent.safetensors"}})");
  expect_error(place_.run({"inspect", "model"}), 3, {"absent.safetensors"});
  fs::remove(place_ / "model/model.safetensors.index.json");
  fs::create_symlink("../outside.safetensors", place_ / "model/model.safetensors");
  expect_refused({"model.safetensors"});
}

TEST_F(ModelError, ConfigAgainstRunFile) {
  place_.write("tune.yaml",
               "model: {path: model}\ndata: {train: [{synthetic: {documents: 8, length: 40}}], "
               "max_length: 32}\ntrain: {steps: 1}\n");
  const auto larger = [&](const char* key) { return std::to_string(config_[key].get<int>() + 8); };
  for (const auto& [key, value] :
       std::map<std::string, std::string>{{"hidden_size", larger("hidden_size")},
                                          {"vocab_size", larger("vocab_size")},
                                          {"rope_theta", "123"},
                                          {"tie_word_embeddings", "true"}}) {
    expect_error(place_.run({"train", "tune.yaml", "--dry-run", "model." + key + "=" + value}), 2,
                 {key, value, "config.json"});
  }
}

TEST_F(ModelError, PathsThatAreNoModel) {
  fs::create_directory(place_ / "empty");
  for (const char* verb : {"generate", "inspect"}) {
    const bool generates = std::string(verb) == "generate";
    for (const char* path : {"absent", "empty"}) {
      const ChildResult result = generates ? place_.run({"generate", "--model", path, "--ids", "1"})
                                           : place_.run({"inspect", path});
      expect_error(result, 3, {path});
    }
  }
  expect_error(place_.run({"generate", "--model", "run.yaml", "--ids", "1"}), 3, {"a file"});
  expect_error(place_.run({"generate", "--model", "model", "--ids", "99999"}), 3, {"99999"});
  expect_error(place_.run({"generate", "--model", "model", "--prompt", "x"}), 2, {"--tokenizer"});
}

TEST_F(ModelError, ExportRefusesWhatItCannotExpress) {
  expect_error(
      place_.run({"export", "hf", "--in", "model", "--out", "made", "--arch", "internlm2"}), 2,
      {"auto_map"});
  EXPECT_FALSE(fs::exists(place_ / "made"));
  place_.write("made/kept.txt", "mine");
  expect_error(place_.run({"export", "hf", "--in", "model", "--out", "made"}), 4, {"made"});
  EXPECT_EQ(slurp(place_ / "made/kept.txt"), "mine");
}

// A limit on the size of files stands for a full disk: the write fails in the middle.
TEST_F(ModelError, ExportOntoAFullDisk) {
  ChildOptions options = place_.options();
  options.file_limit = 4096;
  const auto before = files_below(place_.path());
  expect_error(place_.run({"export", "hf", "--in", "model", "--out", "made"}, options), 4,
               {"File too large"});
  EXPECT_EQ(files_below(place_.path()), before);
}

}  // namespace
}  // namespace ink
