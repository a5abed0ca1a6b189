// The peak of the machine: measured, kept, and never trusted from a damaged cache.
#include "launch/machine_peak.h"

#include <cstdlib>

#include "tests/report/rows.h"

namespace ink {
namespace {

TEST(MachinePeak, IsMeasuredOnceAndKept) {
  const TemporaryFolder folder;
  setenv("XDG_CACHE_HOME", folder.path().c_str(), 1);
  EXPECT_FALSE(cached_peak({}, DType::kF32));
  folder.write("inkstone/peak.json", "{damaged");
  EXPECT_FALSE(cached_peak({}, DType::kF32));

  const double peak = measure_peak({}, DType::kF32);
  EXPECT_GT(peak, 1e8);   // slower than any processor that runs this
  EXPECT_LT(peak, 1e15);  // faster than any
  ASSERT_TRUE(cached_peak({}, DType::kF32));
  EXPECT_EQ(*cached_peak({}, DType::kF32), peak);
  EXPECT_FALSE(cached_peak({}, DType::kBF16));  // another type is another measurement

  folder.write("inkstone/peak.json", "{}");
  EXPECT_FALSE(cached_peak({}, DType::kF32));
  unsetenv("XDG_CACHE_HOME");
}

TEST(MachinePeak, IsRaisedToWhatARunHasReached) {
  const TemporaryFolder folder;
  setenv("XDG_CACHE_HOME", folder.path().c_str(), 1);
  constexpr double kBeyondAnyProcessor = 1e16;
  EXPECT_EQ(raise_peak({}, DType::kF32, kBeyondAnyProcessor), kBeyondAnyProcessor);
  EXPECT_EQ(cached_peak({}, DType::kF32), kBeyondAnyProcessor);
  const double measured = raise_peak({}, DType::kF32, 1.0);
  EXPECT_GT(measured, 1e8);
  EXPECT_EQ(cached_peak({}, DType::kF32), measured);
  unsetenv("XDG_CACHE_HOME");
}

TEST(MachinePeak, ACacheThatCannotBeWrittenIsNoError) {
  const TemporaryFolder folder;
  setenv("XDG_CACHE_HOME", folder.write("file", "x").c_str(), 1);
  EXPECT_GT(measure_peak({}, DType::kF32), 1e8);
  EXPECT_FALSE(cached_peak({}, DType::kF32));
  unsetenv("XDG_CACHE_HOME");
}

// The standard has it so: base directories are absolute.
TEST(MachinePeak, ARelativeCacheIsNone) {
  const TemporaryFolder home;
  setenv("XDG_CACHE_HOME", "relative", 1);
  const char* before = getenv("HOME");
  const std::string kept = before == nullptr ? "" : before;
  setenv("HOME", home.path().c_str(), 1);
  static_cast<void>(raise_peak({}, DType::kF32, 1.0));
  EXPECT_TRUE(std::filesystem::exists(home / ".cache/inkstone/peak.json"));
  EXPECT_FALSE(std::filesystem::exists("relative"));
  setenv("HOME", kept.c_str(), 1);
  unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace ink
