#include "models/hub/hf_directory.h"

#include <gtest/gtest.h>

#include "tests/hub/hub_fixture.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
const ExitCode kBad = ExitCode::kBadInput;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

// Two shards with one tensor of 16 bytes each, and a right index.
class Sharded : public ::testing::Test {
 protected:
  Sharded() {
    write_tensors(folder_ / kFirst, {{"a", {4}, {1, 2, 3, 4}}});
    write_tensors(folder_ / kSecond, {{"b", {4}, {5, 6, 7, 8}}});
    index(R"({"metadata": {"total_size": 32}, "weight_map": {"a": "FIRST", "b": "SECOND"}})");
  }

  void index(std::string text) {
    for (const auto& [word, name] : {std::pair{"FIRST", kFirst}, std::pair{"SECOND", kSecond}}) {
      for (size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
        text.replace(at, std::strlen(word), name);
      }
    }
    folder_.write(kIndex, text);
  }
  void expect_bad(const std::vector<std::string>& words) {
    expect_error(kBad, words, [&] { HfDirectory{folder_.path()}; });
  }

  TemporaryFolder folder_;
};

TEST_F(Sharded, Loads) {
  const HfDirectory directory(folder_.path());
  ASSERT_EQ(directory.tensors().size(), 2u);
  std::vector<float> values(4);
  directory.tensors().at("b").read(0, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, (std::vector<float>{5, 6, 7, 8}));
  EXPECT_TRUE(directory.notices().empty());
  index(R"({"weight_map": {"a": "FIRST", "b": "SECOND"}})");  // the size is optional
  EXPECT_NO_THROW(HfDirectory{folder_.path()});
}

TEST_F(Sharded, MissingShard) {
  fs::remove(folder_ / kSecond);
  expect_bad({kIndex, kSecond, "2 shards, got 1"});
}

TEST_F(Sharded, ShardLacksItsTensor) {
  index(R"({"weight_map": {"a": "FIRST", "b": "SECOND", "c": "SECOND"}})");
  expect_bad({kSecond, "\"c\""});
}

TEST_F(Sharded, TensorInTwoShards) {
  fs::remove(folder_ / kSecond);
  write_tensors(folder_ / kSecond, {{"a", {4}, {1, 2, 3, 4}}, {"b", {4}, {5, 6, 7, 8}}});
  expect_bad({kSecond, "\"a\"", kFirst});
}

TEST_F(Sharded, TensorThatIsNotListed) {
  index(R"({"weight_map": {"a": "FIRST"}})");
  fs::remove(folder_ / kFirst);
  write_tensors(folder_ / kFirst, {{"a", {1}, {1}}, {"z", {1}, {1}}});
  expect_bad({kFirst, "\"z\"", "does not list"});
}

TEST_F(Sharded, WrongTotalSize) {
  index(R"({"metadata": {"total_size": 33}, "weight_map": {"a": "FIRST", "b": "SECOND"}})");
  expect_bad({"metadata.total_size", "32", "33"});
}

TEST_F(Sharded, FilesOutsideTheIndexAreMentionedAndNotMerged) {
  write_tensors(folder_ / "model.safetensors", {{"old", {1}, {1}}});
  write_tensors(folder_ / "model-00003-of-00003.safetensors", {{"c", {1}, {1}}});
  folder_.write("pytorch_model.bin", "canary");
  const HfDirectory directory(folder_.path());
  EXPECT_EQ(directory.tensors().size(), 2u);
  ASSERT_EQ(directory.notices().size(), 1u);
  for (const char* name : {"\"model.safetensors\"", "00003-of-00003", "pytorch_model.bin"}) {
    EXPECT_NE(directory.notices()[0].find(name), std::string::npos) << directory.notices()[0];
  }
}

TEST_F(Sharded, NamesThatLeaveTheDirectory) {
  for (const char* name : {"../x", "/etc/passwd", "a/b", "", ".."}) {
    index(fmt::format(R"({{"weight_map": {{"a": "{}", "b": "SECOND"}}}})", name));
    expect_bad({"weight_map.a", "one file name inside the directory"});
  }
  index(R"({"weight_map": {"a": 7}})");
  expect_bad({"weight_map.a", "a string"});
  index(R"({"weight_map": {}})");
  expect_bad({"weight_map"});
  index(R"({"weight_map": {"a": "FIRST", "a": "SECOND"}})");
  expect_bad({kIndex, "\"a\"", "twice"});
  index(std::string(100'000, '['));
  expect_bad({kIndex, "nested"});
}

TEST_F(Sharded, LinksThatLeaveTheDirectory) {
  const TemporaryFolder outside;
  write_tensors(outside / "x", {{"b", {4}, {5, 6, 7, 8}}});
  fs::remove(folder_ / kSecond);
  fs::create_symlink(outside / "x", folder_ / kSecond);
  expect_bad({kSecond, "a link to"});
}

TEST(HfDirectory, LoadsAHubCacheSnapshot) {
  const TemporaryFolder hub;
  const fs::path snapshot = hub.path() / "models--a--b" / "snapshots" / std::string(40, 'f');
  const fs::path blobs = hub.path() / "models--a--b" / "blobs";
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  const auto store = [&](const char* name, const std::string& sha) {
    fs::copy_file(golden("llama_tied") / name, blobs / sha);
    fs::create_symlink("../../blobs/" + sha, snapshot / name);
  };
  store("config.json", std::string(40, 'a'));
  store("model.safetensors", std::string(64, 'b'));
  const HfDirectory directory(snapshot);
  EXPECT_EQ(read_config_json(directory.files()).model, golden_options("llama_tied"));
  EXPECT_NO_THROW(check_import(directory, golden_options("llama_tied")));
}

TEST(HfDirectory, PickledWeightsAreRefusedUnread) {
  const TemporaryFolder folder;
  const fs::path canary = folder / "canary";
  // A protocol-0 pickle whose loading would create the canary.
  const std::string pickle = fmt::format("cos\nsystem\n(S'touch {}'\ntR.", canary.string());
  for (const char* name : {"pytorch_model.bin", "model.pt", "model.ckpt", "model.pth"}) {
    const TemporaryFolder model;
    model.write(name, pickle);
    model.write("config.json", "{}");
    expect_error(kBad, {name, "pickle refused"}, [&] { HfDirectory{model.path()}; });
  }
  const TemporaryFolder disguised;
  disguised.write("model.safetensors", std::string("PK\3\4", 4) + pickle);
  expect_error(kBad, {"model.safetensors", "pickle refused"},
               [&] { HfDirectory{disguised.path()}; });
  disguised.write("pytorch_model.bin", pickle);  // nothing falls back to it
  expect_error(kBad, {"model.safetensors", "pickle refused"},
               [&] { HfDirectory{disguised.path()}; });
  EXPECT_FALSE(fs::exists(canary));
}

TEST(HfDirectory, SaysWhatIsNotThere) {
  const TemporaryFolder folder;
  expect_error(kBad, {"model.safetensors", "got neither"}, [&] { HfDirectory{folder.path()}; });
  write_tensors(folder / kFirst, {{"a", {1}, {1}}});
  expect_error(kBad, {kFirst, kIndex}, [&] { HfDirectory{folder.path()}; });
  expect_error(kBad, {"absent"}, [&] { HfDirectory{folder / "absent"}; });
  write_tensors(folder / "model.safetensors", {{"a", {1}, {1}}});
  expect_error(kBad, {"model.embed_tokens.weight", "neither among 1"},
               [&] { (void)HfDirectory(folder.path()).names(); });
}

}  // namespace
}  // namespace ink
