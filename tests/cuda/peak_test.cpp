// The peak of the card is measured where a run finds none on disk: beside it, never at its cost.
#include <cstdlib>

#include "tests/cli/inkstone_run.h"
#include "tests/cuda/card.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class CudaPeak : public testing::Test {
 protected:
  // caches: the folder under which the program looks for a peak.
  ChildResult train(const std::string& out, const std::string& caches,
                    const std::vector<std::string>& more = {},
                    const std::map<std::string, std::string>& variables = {}) const {
    ChildOptions options = place_.options();
    options.variables["XDG_CACHE_HOME"] = (place_ / caches).string();
    for (const auto& [name, value] : variables) options.variables[name] = value;
    std::vector<std::string> arguments{"train", "run.yaml", "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_.run(arguments, options);
  }
  void SetUp() override {
    place_.write_run("train: {steps: 3, global_batch_size: 2, device: cuda, deterministic: true}");
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
  }
  Workplace place_;
};

TEST_F(CudaPeak, TakesNoMemoryOfTheRun) {
  expect_done(train("first", "found"));
  ASSERT_TRUE(fs::exists(place_ / "found/inkstone/peak.json"));
  expect_done(train("cached", "found"));
  const std::vector<json> cached = step_rows(place_ / "cached");
  ASSERT_EQ(cached.size(), 3u);
  const auto most = cached.back().at("mem_peak").get<int64_t>();
  // As much as it needs and not a byte more, of which the peak would take several times as much.
  expect_done(train("tight", "none", {"train.memory_limit=" + std::to_string(most)}));
  EXPECT_TRUE(fs::exists(place_ / "none/inkstone/peak.json"));
  const std::vector<json> tight = step_rows(place_ / "tight");
  ASSERT_EQ(tight.size(), 3u);
  for (size_t i = 0; i < tight.size(); ++i) {
    EXPECT_EQ(tight[i].at("mem_peak"), cached[i].at("mem_peak"));
    EXPECT_EQ(tight[i].at("mem_reserved"), cached[i].at("mem_reserved"));
    EXPECT_TRUE(tight[i].at("mfu").is_number());
  }
}

#ifdef INKSTONE_CUDA_ON_CPU_TEST

// The products of the measurement take 768 KiB there.
TEST_F(CudaPeak, WithoutRoomForItARunHasNoMfu) {
  const ChildResult result = train("run", "none", {}, {{"EMULATED_MEMORY", "700000"}});
  expect_done(result);
  EXPECT_NE(result.err.find("machine peak: no memory is left to measure it in"), std::string::npos)
      << result.err;
  EXPECT_FALSE(fs::exists(place_ / "none/inkstone/peak.json"));
  const std::vector<json> rows = step_rows(place_ / "run");
  ASSERT_EQ(rows.size(), 3u);
  for (const json& row : rows) EXPECT_TRUE(row.at("mfu").is_null());
}

#endif

}  // namespace
}  // namespace ink
