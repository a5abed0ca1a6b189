// The learning rate of every schedule against its closed form, through the `optim` section.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "optim/policy/step_options.h"

namespace ink {
namespace {

constexpr int64_t kTotal = 200, kWarmup = 20;
constexpr double kPeak = 3e-4, kFloor = 3e-5;

OptimSection section(ScheduleType schedule) {
  OptimSection optim;
  optim.lr = kPeak;
  optim.min_lr = kFloor;
  optim.schedule = schedule;
  optim.warmup_steps = kWarmup;
  return optim;
}

double rate(const OptimSection& optim, int64_t t) {
  return learning_rate(step_options(optim, kTotal).schedule, t);
}

void expect_rates(const OptimSection& optim, const std::function<double(double t)>& after_warmup) {
  for (int64_t t = 0; t < kTotal + 5; ++t) {
    const double want = t < kWarmup
                            ? kPeak * static_cast<double>(t + 1) / static_cast<double>(kWarmup)
                            : after_warmup(static_cast<double>(std::min(t, kTotal)));
    EXPECT_NEAR(rate(optim, t), want, 1e-15) << "update " << t;
  }
}

TEST(Schedule, Cosine) {
  const OptimSection optim = section(ScheduleType::kCosine);
  expect_rates(optim, [](double t) {
    return kFloor + (kPeak - kFloor) *
                        (1 + std::cos(std::numbers::pi * (t - kWarmup) / (kTotal - kWarmup))) / 2;
  });
  // The peak is used twice: at the end of the warm-up and at the start of the decay.
  EXPECT_EQ(rate(optim, kWarmup - 1), kPeak);
  EXPECT_EQ(rate(optim, kWarmup), kPeak);
  EXPECT_EQ(rate(optim, kTotal), kFloor);
}

TEST(Schedule, Linear) {
  expect_rates(section(ScheduleType::kLinear), [](double t) {
    return kPeak + (kFloor - kPeak) * (t - kWarmup) / (kTotal - kWarmup);
  });
}

TEST(Schedule, Constant) {
  expect_rates(section(ScheduleType::kConstant), [](double) { return kPeak; });
}

TEST(Schedule, WarmupStableDecay) {
  constexpr double kDecay = 50;
  const auto with = [](DecayShape shape) {
    OptimSection optim = section(ScheduleType::kWsd);
    optim.decay_steps = static_cast<int64_t>(kDecay);
    optim.decay_shape = shape;
    return optim;
  };
  const auto expect_decay = [&](DecayShape shape, const std::function<double(double)>& fall) {
    expect_rates(with(shape), [&](double t) {
      const double p = std::max(0.0, (t - (kTotal - kDecay)) / kDecay);
      return kFloor + (kPeak - kFloor) * fall(p);
    });
  };
  expect_decay(DecayShape::kLinear, [](double p) { return 1 - p; });
  expect_decay(DecayShape::kCosine,
               [](double p) { return (1 + std::cos(std::numbers::pi * p)) / 2; });
  expect_decay(DecayShape::kSqrt, [](double p) { return 1 - std::sqrt(p); });
}

TEST(Schedule, WarmupFromARatio) {
  OptimSection optim = section(ScheduleType::kConstant);
  optim.warmup_steps.reset();
  EXPECT_EQ(step_options(optim, kTotal).schedule.warmup, 0);
  EXPECT_EQ(rate(optim, 0), kPeak);
  optim.warmup_ratio = 0.0199;
  EXPECT_EQ(step_options(optim, kTotal).schedule.warmup, 3) << "rounded down";
}

}  // namespace
}  // namespace ink
