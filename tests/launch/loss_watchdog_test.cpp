#include "launch/trainer/loss_watchdog.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Steps at which the action is due.
std::vector<int64_t> due_steps(LossWatchdog& watchdog, const std::vector<double>& losses,
                               int64_t first = 1) {
  std::vector<int64_t> due;
  for (size_t i = 0; i < losses.size(); ++i) {
    if (watchdog.judge(first + static_cast<int64_t>(i), losses[i]))
      due.push_back(first + static_cast<int64_t>(i));
  }
  return due;
}

TEST(LossWatchdog, JudgesByTheMedianOfAFullWindow) {
  LossWatchdog watchdog(LossWatchdogOptions{.factor = 3, .window = 4});
  // 100 comes while the window fills: nobody judges it, and it does not move the median.
  EXPECT_EQ(due_steps(watchdog, {100, 1, 2, 2, 6, 6.1}), (std::vector<int64_t>{6}));
  ASSERT_TRUE(watchdog.spike().has_value());
  EXPECT_EQ(watchdog.spike()->since, 6);
  EXPECT_EQ(watchdog.spike()->loss, 6.1);
  EXPECT_EQ(watchdog.spike()->reference, 2);
}

TEST(LossWatchdog, EndsWithTheFirstLossBelow) {
  LossWatchdog watchdog(LossWatchdogOptions{.factor = 2, .window = 4});
  EXPECT_EQ(due_steps(watchdog, {1, 1, 1, 1, 9, 9}), (std::vector<int64_t>{5, 6}));
  EXPECT_EQ(watchdog.spike()->since, 5);
  EXPECT_EQ(watchdog.spike()->last, 6);
  EXPECT_EQ(watchdog.spike()->length, 2);
  EXPECT_FALSE(watchdog.judge(7, 1.5));
  EXPECT_FALSE(watchdog.spike().has_value());
}

// A level that stays is the reference once it fills half of the window.
TEST(LossWatchdog, ALevelThatStaysBecomesTheReference) {
  LossWatchdog watchdog(LossWatchdogOptions{.factor = 2, .window = 6});
  EXPECT_EQ(due_steps(watchdog, {1, 1, 1, 1, 1, 1, 5, 5, 5, 5, 5}),
            (std::vector<int64_t>{7, 8, 9}));
  EXPECT_FALSE(watchdog.spike().has_value());
}

TEST(LossWatchdog, PatienceWaitsForSpikesInARow) {
  LossWatchdog watchdog(LossWatchdogOptions{.factor = 2, .window = 5, .patience = 2});
  EXPECT_EQ(due_steps(watchdog, {1, 1, 1, 1, 1, 9, 1, 9, 9}), (std::vector<int64_t>{9}));
}

TEST(LossWatchdog, WhatIsNotFiniteIsLeftToTheOtherGuard) {
  LossWatchdog watchdog(LossWatchdogOptions{.factor = 2, .window = 2});
  EXPECT_TRUE(due_steps(watchdog, {1, 1, kNan, INFINITY, 1}).empty());
  EXPECT_EQ(watchdog.state().at("losses").size(), 2u);
}

TEST(LossWatchdog, WithoutOptionsNothingIsFound) {
  LossWatchdog watchdog(std::nullopt);
  EXPECT_TRUE(due_steps(watchdog, {1, 1, 1000, 1e9}).empty());
  EXPECT_TRUE(watchdog.state().is_null());
  EXPECT_FALSE(watchdog.does(SpikeAction::kWarn));
}

// Through the text of a manifest, at every step, in and out of a spike.
TEST(LossWatchdog, GoesOnFromItsState) {
  const LossWatchdogOptions options{.factor = 1.5, .window = 5, .patience = 2};
  std::vector<double> losses;
  for (int i = 0; i < 40; ++i) losses.push_back((i % 7 < 2 ? 1.0 : 1.0 / 3) + 0.01 * std::sin(i));
  LossWatchdog whole(options);
  const std::vector<int64_t> want = due_steps(whole, losses);
  ASSERT_GT(want.size(), 2u);
  for (size_t cut = 0; cut <= losses.size(); ++cut) {
    LossWatchdog first(options), second(options);
    std::vector<int64_t> got =
        due_steps(first, {losses.begin(), losses.begin() + static_cast<std::ptrdiff_t>(cut)});
    second.restore(nlohmann::json::parse(first.state().dump()), "manifest.json");
    for (const int64_t step :
         due_steps(second, {losses.begin() + static_cast<std::ptrdiff_t>(cut), losses.end()},
                   static_cast<int64_t>(cut) + 1))
      got.push_back(step);
    EXPECT_EQ(got, want) << cut;
    EXPECT_EQ(second.state(), whole.state()) << cut;
  }
}

TEST(LossWatchdog, AShorterWindowTakesTheNewest) {
  LossWatchdog longer(LossWatchdogOptions{.window = 4}), shorter(LossWatchdogOptions{.window = 2});
  due_steps(longer, {1, 2, 3, 4});
  shorter.restore(longer.state(), "manifest.json");
  EXPECT_EQ(shorter.state().at("losses"), nlohmann::json({3.0, 4.0}));
  EXPECT_THROW(shorter.restore({{"losses", "x"}}, "manifest.json"), Error);
  EXPECT_THROW(shorter.restore(nlohmann::json::object(), "manifest.json"), Error);
}

}  // namespace
}  // namespace ink
