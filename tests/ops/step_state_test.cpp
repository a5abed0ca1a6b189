#include "engine/ops/step_state.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/op_case.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

// A gradient tensor adds its squares to a sum that starts at 2.
REGISTER_OP_CASE({.name = "sum_squares",
                  .inputs = {{.name = "x", .shape = {11, 97}}},
                  .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
                    Tensor sum = from_values(in[0].runtime(), {2.0}, {}, DType::kF64);
                    sum_squares(sum.device(), in[0], WriteMode::kAccumulate, sum);
                    Tensor alone(in[0].runtime(), {}, DType::kF64);
                    sum_squares(sum.device(), in[0], WriteMode::kOverwrite, alone);
                    return {sum, alone};
                  },
                  .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
                    double total = 0;
                    for (const double x : in[0]) total += x * x;
                    return {{2.0 + total}, {total}};
                  },
                  .tolerance = {.f32 = 1e-12, .bf16 = 1e-12, .f16 = 1e-12},
                  .slots = {&sum_squares},
                  .differentiable = 0});

// Tensors of several chunks of a block, of a few elements, of none, and strided, in one launch.
REGISTER_OP_CASE({.name = "sum_squares_many",
                  .inputs = {{.name = "large", .shape = {70003}},
                             {.name = "matrix", .shape = {11, 97}},
                             {.name = "small", .shape = {5}}},
                  .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
                    Runtime& runtime = in[0].runtime();
                    const auto nan = [&](int64_t count) {
                      return from_values(runtime, Values(static_cast<size_t>(count), NAN), {count},
                                         DType::kF64);
                    };
                    std::vector<Tensor> all = in;
                    all.emplace(all.begin() + 1, runtime, Shape{0}, in[0].dtype());
                    Tensor sum = nan(1), each = nan(4), none = nan(1), of_none = nan(0);
                    sum_squares_many(sum.device(), all, each, sum);
                    sum_squares_many(none.device(), {}, of_none, none);
                    return {sum, each, none};
                  },
                  .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
                    Values each;
                    for (const Values& values : in) {
                      double total = 0;
                      for (const double x : values) total += x * x;
                      each.push_back(total);
                    }
                    each.insert(each.begin() + 1, 0.0);
                    return {{each[0] + each[2] + each[3]}, each, {0.0}};
                  },
                  .tolerance = {.f32 = 1e-12, .bf16 = 1e-12, .f16 = 1e-12},
                  .slots = {&sum_squares_many},
                  .differentiable = 0});

// Gradients of two types, as matrices and norms have them.
REGISTER_OP_CASE({.name = "sum_squares_of_two_types",
                  .inputs = {{.name = "matrix", .shape = {61, 1151}, .dtype = DType::kBF16},
                             {.name = "norm", .shape = {97}, .dtype = DType::kF32},
                             {.name = "last", .shape = {5, 3}, .dtype = DType::kBF16}},
                  .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
                    Tensor sum(in[0].runtime(), {}, DType::kF64);
                    Tensor each(in[0].runtime(), {3}, DType::kF64);
                    sum_squares_many(sum.device(), in, each, sum);
                    return {sum, each};
                  },
                  .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
                    Values each;
                    for (const Values& values : in) {
                      each.push_back(0);
                      for (const double x : values) each.back() += x * x;
                    }
                    return {{each[0] + each[1] + each[2]}, each};
                  },
                  .tolerance = {.f32 = 1e-12},
                  .slots = {&sum_squares_many},
                  .dtypes = {DType::kF32},
                  .differentiable = 0});

StepOptions cosine_options() {
  return {.schedule = {.lr = 1e-3, .min_lr = 1e-4, .total = 100, .warmup = 10}, .clip_norm = 1.0};
}

class Clock {
 public:
  explicit Clock(const StepOptions& options, const StepState& start = {})
      : options_(options), tensor_(step_state_tensor(runtime_, start)) {}
  StepState advance(double squares) {
    const Tensor sum = from_values(runtime_, {squares}, {}, DType::kF64);
    advance_step(Device::kCpu, sum, options_, tensor_);
    return read_step_state(tensor_);
  }

 private:
  Runtime runtime_;
  StepOptions options_;
  Tensor tensor_;
};

// The numbers of the second update, by hand: t = 1 in a warm-up of 10, clipped to 1. The norm is
// that of the last sum.
OpCase second_update(const std::string& name, const Values& sums) {
  return {.name = name,
          .inputs = {{.name = "sum_squares",
                      .shape = {static_cast<int64_t>(sums.size())},
                      .values = [sums](const Shape&) { return sums; },
                      .dtype = DType::kF64}},
          .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            Runtime& runtime = in[0].runtime();
            Tensor state = step_state_tensor(runtime, {.updates = 1});
            advance_step(in[0].device(), in[0], cosine_options(), state);
            const StepState now = read_step_state(state);
            return {from_values(runtime,
                                {static_cast<double>(now.updates), static_cast<double>(now.skip),
                                 now.lr, now.grad_norm, now.grad_factor, now.bias1, now.bias2},
                                {7}, DType::kF64)};
          },
          .composed =
              [norm = std::sqrt(sums.back())](const std::vector<Values>&) -> std::vector<Values> {
            return {{2.0, 0.0, 2e-4, norm, 1 / (norm + 1e-6), 1 - 0.9 * 0.9, 1 - 0.95 * 0.95}};
          },
          .tolerance = {.f32 = 1e-12},
          .slots = {&advance_step},
          .dtypes = {DType::kF32},
          .differentiable = 0,
          .strided = false,
          .empty = false};
}
REGISTER_OP_CASE(second_update("advance_step", {9.0}));
// Two sums: all parameters, and a group of them that is clipped alone.
REGISTER_OP_CASE(second_update("advance_step_of_a_group", {100.0, 16.0}));

// A veto skips a step whose norm is good, and leaves the loss scale alone.
REGISTER_OP_CASE({.name = "advance_step_veto",
                  .inputs = {{.name = "sum_squares",
                              .shape = {1},
                              .values = [](const Shape&) { return Values{9.0}; },
                              .dtype = DType::kF64}},
                  .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
                    Runtime& runtime = in[0].runtime();
                    StepOptions options = cosine_options();
                    options.veto = true;
                    options.loss_scale.enabled = true;
                    Tensor state = step_state_tensor(
                        runtime, {.updates = 1, .hysteresis_left = 1, .loss_scale = 2.0});
                    advance_step(in[0].device(), in[0], options, state);
                    const StepState now = read_step_state(state);
                    return {from_values(
                        runtime,
                        {static_cast<double>(now.updates), static_cast<double>(now.skipped),
                         static_cast<double>(now.skipped_in_a_row), static_cast<double>(now.skip),
                         now.grad_norm, now.loss_scale},
                        {6}, DType::kF64)};
                  },
                  .composed = [](const std::vector<Values>&) -> std::vector<Values> {
                    return {{1.0, 1.0, 1.0, 1.0, 1.5, 2.0}};
                  },
                  .tolerance = {.f32 = 1e-12},
                  .slots = {&advance_step},
                  .dtypes = {DType::kF32},
                  .differentiable = 0,
                  .strided = false,
                  .empty = false});

TEST(StepState, LearningRatesOfEveryShape) {
  const Schedule cosine{.lr = 1.0, .min_lr = 0.1, .total = 110, .warmup = 10};
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 0), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 9), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 10), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 60), 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 110), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 1000), 0.1);
  Schedule linear = cosine;
  linear.shape = ScheduleShape::kLinear;
  EXPECT_DOUBLE_EQ(learning_rate(linear, 35), 0.775);
  Schedule constant = cosine;
  constant.shape = ScheduleShape::kConstant;
  EXPECT_DOUBLE_EQ(learning_rate(constant, 109), 1.0);
  Schedule wsd = cosine;
  wsd.shape = ScheduleShape::kWsd;
  wsd.decay = 40;
  for (const DecayCurve shape : {DecayCurve::kLinear, DecayCurve::kCosine, DecayCurve::kSqrt}) {
    wsd.decay_shape = shape;
    EXPECT_DOUBLE_EQ(learning_rate(wsd, 70), 1.0);
    EXPECT_DOUBLE_EQ(learning_rate(wsd, 110), 0.1);
  }
  wsd.decay_shape = DecayCurve::kLinear;
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 80), 0.775);
  wsd.decay_shape = DecayCurve::kCosine;
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 90), 0.55);
  wsd.decay_shape = DecayCurve::kSqrt;
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 80), 0.1 + 0.9 * (1 - 0.5));
}

TEST(StepState, ANonFiniteNormSkipsTheStepAndKeepsTheSchedule) {
  Clock clock(cosine_options());
  const StepState first = clock.advance(0.25);
  EXPECT_EQ(first.updates, 1);
  EXPECT_EQ(first.skip, 0);
  EXPECT_DOUBLE_EQ(first.grad_factor, 1.0);  // below the limit: untouched
  for (const double bad : {double{NAN}, double{INFINITY}}) {
    const StepState skipped = clock.advance(bad);
    EXPECT_EQ(skipped.skip, 1);
    EXPECT_EQ(skipped.updates, 1);
    EXPECT_DOUBLE_EQ(skipped.lr, first.lr);
  }
  const StepState next = clock.advance(0.25);
  EXPECT_EQ(next.skip, 0);
  EXPECT_EQ(next.updates, 2);
  EXPECT_EQ(next.skipped, 2);
  EXPECT_EQ(next.skipped_in_a_row, 0);
  EXPECT_DOUBLE_EQ(next.lr, 2e-4);
}

TEST(StepState, TheLossScaleBacksOffAfterTheHysteresisAndGrowsAfterCleanSteps) {
  StepOptions options = cosine_options();
  options.clip_norm = 0;
  options.loss_scale = {.enabled = true, .initial = 1024, .maximum = 1024, .growth_interval = 3};
  Clock clock(options, {.loss_scale = 1024});
  EXPECT_EQ(clock.advance(INFINITY).loss_scale, 1024);  // the first one is forgiven
  EXPECT_EQ(clock.advance(INFINITY).loss_scale, 512);
  EXPECT_EQ(clock.advance(INFINITY).loss_scale, 512);  // forgiven again: a back-off resets
  const StepState clean = clock.advance(512.0 * 512.0);
  EXPECT_DOUBLE_EQ(clean.grad_norm, 1.0);
  EXPECT_DOUBLE_EQ(clean.grad_factor, 1.0 / 512);
  EXPECT_EQ(clock.advance(1.0).loss_scale, 512);
  EXPECT_EQ(clock.advance(1.0).loss_scale, 1024);
  for (int i = 0; i < 3; ++i) (void)clock.advance(1.0);
  EXPECT_EQ(clock.advance(1.0).loss_scale, 1024);  // the maximum holds
}

// The counter of the hysteresis stays used up until the scale grows, and NaN counts as clean.
TEST(StepState, TheScalerRuleOfInternEvo) {
  StepOptions options = cosine_options();
  options.loss_scale = {.enabled = true,
                        .rule = ScalerRule::kInternEvo,
                        .initial = 1024,
                        .maximum = 4096,
                        .growth_interval = 3};
  Clock clock(options, {.loss_scale = 1024});
  EXPECT_EQ(clock.advance(INFINITY).loss_scale, 1024);
  EXPECT_EQ(clock.advance(INFINITY).loss_scale, 512);
  EXPECT_EQ(clock.advance(INFINITY).loss_scale, 256);  // every further one
  (void)clock.advance(1.0);
  const StepState nan = clock.advance(NAN);
  EXPECT_EQ(nan.skip, 1);
  EXPECT_EQ(nan.clean_steps, 2);
  EXPECT_EQ(nan.loss_scale, 256);
  EXPECT_EQ(clock.advance(NAN).loss_scale, 512);       // grown by the third clean one
  EXPECT_EQ(clock.advance(INFINITY).loss_scale, 512);  // growth has restored the hysteresis
}

// The first of two sums decides whether the step is made.
TEST(StepState, AGroupFollowsTheCommonDecision) {
  Runtime runtime;
  Tensor state = step_state_tensor(runtime, {});
  const Tensor sums = from_values(runtime, {INFINITY, 16.0}, {2}, DType::kF64);
  advance_step(Device::kCpu, sums, cosine_options(), state);
  EXPECT_EQ(read_step_state(state).skip, 1);
}

TEST(StepState, UncheckedStepsAreMadeWhateverTheSquares) {
  StepOptions options = cosine_options();
  options.clip_norm = 0;
  options.unchecked = true;
  Clock clock(options, {.loss_scale = 8});
  const StepState state = clock.advance(NAN);
  EXPECT_EQ(state.skip, 0);
  EXPECT_EQ(state.updates, 1);
  EXPECT_EQ(state.grad_norm, 0);
  EXPECT_EQ(state.grad_factor, 1);
}

TEST(StepState, Beta2FollowsItsDecay) {
  StepOptions options = cosine_options();
  options.beta2 = 0.5;
  options.beta2_decay = 0.8;
  Clock clock(options, {.updates = 99});
  EXPECT_DOUBLE_EQ(clock.advance(1.0).beta2, 1 - std::pow(100.0, -0.8));
}

TEST(SumSquares, OneBadElementMakesTheSumNonFiniteOnEveryInstructionSet) {
  for (const std::string_view label : sum_squares.labels(Device::kCpu)) {
    sum_squares.choose(Device::kCpu, label);
    for (const double bad : {double{NAN}, double{INFINITY}, -double{INFINITY}}) {
      for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
        Runtime runtime;
        Values values(20000, 0.5);
        values[17011] = bad;
        const Tensor x = from_values(runtime, values, {20000}, dtype);
        Tensor sum(runtime, {}, DType::kF64);
        sum_squares(Device::kCpu, x, WriteMode::kOverwrite, sum);
        EXPECT_FALSE(std::isfinite(to_values(sum)[0])) << label << " " << name_of(dtype);
      }
    }
    sum_squares.choose(Device::kCpu, {});
  }
}

TEST(SumSquares, DoesNotDependOnTheThreadCount) {
  Runtime runtime;
  const Tensor x = from_values(runtime, normal_values("squares", 300007), {300007}, DType::kF32);
  Tensor sum(runtime, {}, DType::kF64);
  Values totals;
  for (const int threads : {1, 2, 5}) {
    const ScopedThreads scope(threads);
    sum_squares(Device::kCpu, x, WriteMode::kOverwrite, sum);
    totals.push_back(to_values(sum)[0]);
  }
  for (const double total : totals) EXPECT_EQ(total, totals[0]);
}

}  // namespace
}  // namespace ink
