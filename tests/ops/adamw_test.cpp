#include "engine/ops/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare.h"
#include "tests/support/op_case.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

const AdamWOptions kOptions{
    .beta1 = 0.9, .eps = 1e-8, .weight_decay = 0.1, .key = philox_key(3, "layers.0.w")};

StepState third_update() {
  return {.updates = 3,
          .lr = 1e-2,
          .grad_factor = 0.5,
          .beta2 = 0.95,
          .bias1 = 1 - std::pow(0.9, 3),
          .bias2 = 1 - std::pow(0.95, 3)};
}

// {w, m, v} after one update of f64 values.
std::vector<Values> composed(const Values& grad, const Values& param, const Values& m0,
                             const Values& v0, const StepState& s, const AdamWOptions& o) {
  Values w = param, m = m0, v = v0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double g = grad[i] * s.grad_factor;
    m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
    v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
    w[i] -= s.lr * o.lr_scale *
            (o.weight_decay * w[i] + (m[i] / s.bias1) / (std::sqrt(v[i] / s.bias2) + o.eps));
  }
  return {w, m, v};
}

enum class Master : uint8_t { kNone, kF32 };

std::vector<OpInput> update_inputs(DType param, DType moments, DType grad = DType::kF32) {
  return {{.name = "grad", .shape = {1029}, .dtype = grad},
          {.name = "param", .shape = {1029}, .dtype = param},
          {.name = "m", .shape = {1029}, .dtype = moments},
          {.name = "v", .shape = {1029}, .low = 0.1, .high = 1, .dtype = moments}};
}

// With a master the parameter starts as its rounding and the outputs are {master, m, v, param}.
OpCase update_row(const std::string& name, DType param, DType moments, Master master,
                  DType grad = DType::kF32) {
  const bool stochastic =
      moments == DType::kBF16 || (param == DType::kBF16 && master == Master::kNone);
  return {.name = name,
          .inputs = update_inputs(master == Master::kF32 ? DType::kF32 : param, moments, grad),
          .run = [=](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            Runtime& runtime = in[0].runtime();
            const Tensor state = step_state_tensor(runtime, third_update());
            Tensor w = in[1], m = in[2], v = in[3], kept;
            if (master == Master::kF32) {
              kept = w;
              w = from_values(runtime, to_values(w), w.shape(), param);
            }
            adamw_update(w.device(), in[0], state, kOptions, w, kept, m, v);
            if (master == Master::kNone) return {w, m, v};
            return {kept, m, v, w};
          },
          .composed = [=](const std::vector<Values>& in) -> std::vector<Values> {
            auto result = composed(in[0], in[1], in[2], in[3], third_update(), kOptions);
            if (master == Master::kF32) result.push_back(result[0]);
            return result;
          },
          // One stochastic rounding is off by up to a whole step of bf16, 2^-7.
          .tolerance = {.f32 = stochastic || param != DType::kF32 ? 6e-3 : 1e-6},
          .slots = {&adamw_update},
          .dtypes = {DType::kF32},
          .differentiable = 0,
          .strided = false};
}

REGISTER_OP_CASE(update_row("adamw_f32", DType::kF32, DType::kF32, Master::kNone));
REGISTER_OP_CASE(update_row("adamw_master", DType::kBF16, DType::kF32, Master::kF32));
REGISTER_OP_CASE(update_row("adamw_bf16_moments", DType::kF32, DType::kBF16, Master::kNone));
REGISTER_OP_CASE(update_row("adamw_all_bf16", DType::kBF16, DType::kBF16, Master::kNone));
REGISTER_OP_CASE(update_row("adamw_f16_master", DType::kF16, DType::kF32, Master::kF32));
REGISTER_OP_CASE(update_row("adamw_f16_bf16_moments", DType::kF16, DType::kBF16, Master::kF32));
REGISTER_OP_CASE(update_row("adamw_bf16_gradient", DType::kBF16, DType::kBF16, Master::kNone,
                            DType::kBF16));
REGISTER_OP_CASE(update_row("adamw_bf16_gradient_f32_moments", DType::kBF16, DType::kF32,
                            Master::kNone, DType::kBF16));
REGISTER_OP_CASE(update_row("adamw_bf16_gradient_master", DType::kBF16, DType::kF32, Master::kF32,
                            DType::kBF16));
REGISTER_OP_CASE(update_row("adamw_bf16_gradient_master_bf16_moments", DType::kBF16, DType::kBF16,
                            Master::kF32, DType::kBF16));

// Items of different types and lengths in one call, the last of another policy and element.
std::vector<AdamWItem> several_items(const std::vector<Tensor>& in) {
  Runtime& runtime = in[0].runtime();
  std::vector<AdamWItem> items;
  const auto add = [&](size_t first, int64_t begin, int64_t count, const AdamWOptions& options) {
    items.push_back({.grad = in[first].slice(begin, count),
                     .param = in[first + 1].slice(begin, count),
                     .m = in[first + 2].slice(begin, count),
                     .v = in[first + 3].slice(begin, count),
                     .options = options});
  };
  AdamWOptions other = kOptions;
  other.weight_decay = 0;
  other.lr_scale = 0.5;
  other.first_element = 3;
  add(0, 0, 16000, kOptions);
  add(0, 16000, 0, kOptions);
  add(0, 16000, 1003, kOptions);
  add(4, 0, 9000, kOptions);
  add(4, 9000, 5, other);
  items[3].master = items[3].param;
  items[3].param = from_values(runtime, to_values(items[3].master), {9000}, DType::kBF16);
  add(0, 0, 5000, other);
  AdamWItem& narrow = items.back();
  const auto copy = [&](const Tensor& from, DType dtype) {
    return from_values(runtime, to_values(from), from.shape(), dtype);
  };
  narrow = {.grad = copy(narrow.grad, DType::kBF16),
            .param = copy(narrow.param, DType::kBF16),
            .master = copy(narrow.param, DType::kF32),
            .m = copy(narrow.m, DType::kF32),
            .v = copy(narrow.v, DType::kF32),
            .options = other};
  return items;
}

// The values of every item: in one call as one by one, whatever the device.
std::vector<Tensor> values_of(const std::vector<AdamWItem>& items) {
  std::vector<Tensor> all;
  for (const AdamWItem& item : items) {
    for (const Tensor& t : {item.param, item.master, item.m, item.v}) {
      if (t.defined()) all.push_back(t);
    }
  }
  return all;
}

OpCase many_row() {
  OpCase row{
      .name = "adamw_update_many",
      .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
        Runtime& runtime = in[0].runtime();
        const std::vector<AdamWItem> items = several_items(in);
        adamw_update_many(runtime.device(), items, step_state_tensor(runtime, third_update()));
        return values_of(items);
      },
      .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
        Runtime runtime;
        std::vector<Tensor> tensors;
        for (const Values& values : in)
          tensors.push_back(
              from_values(runtime, values, {static_cast<int64_t>(values.size())}, DType::kF32));
        std::vector<AdamWItem> items = several_items(tensors);
        for (AdamWItem& item : items)
          adamw_update(Device::kCpu, item.grad, step_state_tensor(runtime, third_update()),
                       item.options, item.param, item.master, item.m, item.v);
        std::vector<Values> all;
        for (const Tensor& t : values_of(items)) all.push_back(to_values(t));
        return all;
      },
      .tolerance = {.f32 = 1e-4},
      .slots = {&adamw_update_many},
      .dtypes = {DType::kF32},
      .differentiable = 0,
      .strided = false,
      .empty = false};
  for (const int64_t n : {17003, 9005}) {
    for (OpInput& input : update_inputs(DType::kF32, DType::kF32)) {
      input.name += std::to_string(n);
      input.shape = {n};
      row.inputs.push_back(input);
    }
  }
  return row;
}
REGISTER_OP_CASE(many_row());

struct Update {
  Values w, m, v;
};

// One update of bf16 values from elements [first, first + count) of a global range.
Update update_bf16(int64_t first, int64_t count, std::string_view label = {}) {
  adamw_update.choose(Device::kCpu, label);
  Runtime runtime;
  const auto part = [&](const char* name, double low, double high, DType dtype) {
    const Values all = uniform_values(name, 4000, low, high);
    return from_values(runtime, Values(all.begin() + first, all.begin() + first + count), {count},
                       dtype);
  };
  const Tensor grad = part("grad", -1, 1, DType::kF32);
  Tensor w = part("w", -1, 1, DType::kBF16), m = part("m", -1, 1, DType::kBF16);
  Tensor v = part("v", 0.1, 1, DType::kBF16), none;
  AdamWOptions options = kOptions;
  options.first_element = first;
  adamw_update(Device::kCpu, grad, step_state_tensor(runtime, third_update()), options, w, none, m,
               v);
  adamw_update.choose(Device::kCpu, {});
  return {to_values(w), to_values(m), to_values(v)};
}

TEST(AdamW, StochasticRoundingIsTheSameOnEveryCutOfTheRange) {
  const Update whole = update_bf16(0, 4000);
  for (const auto& [first, count] :
       {std::pair<int64_t, int64_t>{0, 1001}, {1001, 2}, {1003, 2997}}) {
    const ScopedThreads threads(first == 0 ? 1 : 3);
    const Update part = update_bf16(first, count);
    for (size_t i = 0; i < part.w.size(); ++i) {
      const size_t global = static_cast<size_t>(first) + i;
      ASSERT_EQ(part.w[i], whole.w[global]) << global;
      ASSERT_EQ(part.m[i], whole.m[global]) << global;
      ASSERT_EQ(part.v[i], whole.v[global]) << global;
    }
  }
}

// A bf16 gradient is widened: bit by bit what its values in f32 give.
TEST(AdamW, ABf16GradientIsItsValues) {
  Runtime runtime;
  const int64_t n = 3003;
  const Values grads = rounded(normal_values("grad", n), DType::kBF16);
  for (const std::string_view label : adamw_update.labels(Device::kCpu)) {
    adamw_update.choose(Device::kCpu, label);
    const auto update = [&](DType gradient) {
      const Tensor grad = from_values(runtime, grads, {n}, gradient);
      Tensor w = from_values(runtime, normal_values("w", n), {n}, DType::kBF16), none;
      Tensor m = zeros(runtime, {n}, DType::kBF16), v = zeros(runtime, {n}, DType::kBF16);
      adamw_update(Device::kCpu, grad, step_state_tensor(runtime, third_update()), kOptions, w,
                   none, m, v);
      return std::vector{to_values(w), to_values(m), to_values(v)};
    };
    EXPECT_EQ(update(DType::kBF16), update(DType::kF32)) << label;
    adamw_update.choose(Device::kCpu, {});
  }
}

// Expected value over many updates equals the unrounded one: plain rounding would leave w at 1.
TEST(AdamW, StochasticRoundingIsUnbiasedOnEveryInstructionSet) {
  for (const std::string_view label : adamw_update.labels(Device::kCpu)) {
    adamw_update.choose(Device::kCpu, label);
    Runtime runtime;
    const int64_t n = 200000;
    const Tensor grad = from_values(runtime, Values(n, 1.0), {n}, DType::kF32);
    Tensor w = from_values(runtime, Values(n, 1.0), {n}, DType::kBF16);
    Tensor m = zeros(runtime, {n}, DType::kF32), v = zeros(runtime, {n}, DType::kF32), none;
    // The first update moves every element by lr: a 32nd of the step of bf16 below 1, 2^-8.
    const StepState state{.updates = 1, .lr = 0x1p-13, .bias1 = 0.1, .bias2 = 0.05};
    AdamWOptions options = kOptions;
    options.weight_decay = 0;
    adamw_update(Device::kCpu, grad, step_state_tensor(runtime, state), options, w, none, m, v);
    double mean = 0;
    for (const double value : to_values(w)) mean += value / static_cast<double>(n);
    // Standard deviation of the mean: 2^-8 * sqrt(p (1 - p) / n), p = 1 / 32.
    EXPECT_NEAR(1 - mean, 0x1p-13, 5 * 0x1p-8 * std::sqrt(0.031 / static_cast<double>(n))) << label;
    adamw_update.choose(Device::kCpu, {});
  }
}

TEST(AdamW, ASkippedStepWritesNothing) {
  Runtime runtime;
  StepState state = third_update();
  state.skip = 1;
  const Tensor grad = from_values(runtime, {NAN, INFINITY}, {2}, DType::kF32);
  Tensor w = from_values(runtime, {1, 2}, {2}, DType::kF32);
  Tensor m = from_values(runtime, {3, 4}, {2}, DType::kF32);
  Tensor v = from_values(runtime, {5, 6}, {2}, DType::kF32), none;
  adamw_update(Device::kCpu, grad, step_state_tensor(runtime, state), kOptions, w, none, m, v);
  EXPECT_EQ(to_values(w), (Values{1, 2}));
  EXPECT_EQ(to_values(m), (Values{3, 4}));
  EXPECT_EQ(to_values(v), (Values{5, 6}));
}

TEST(AdamW, AZeroGradientShrinksTheWeightByExactlyItsDecay) {
  Runtime runtime;
  const Tensor grad = zeros(runtime, {2}, DType::kF32);
  Tensor w = from_values(runtime, {1, -2}, {2}, DType::kF32);
  Tensor m = zeros(runtime, {2}, DType::kF32), v = zeros(runtime, {2}, DType::kF32), none;
  adamw_update(Device::kCpu, grad, step_state_tensor(runtime, third_update()), kOptions, w, none, m,
               v);
  EXPECT_FLOAT_EQ(static_cast<float>(to_values(w)[0]), 1.0f - 1e-3f);
  EXPECT_FLOAT_EQ(static_cast<float>(to_values(w)[1]), -2.0f + 2e-3f);
}

// 20 steps in f32 against the formula in f64.
TEST(AdamW, TwentyStepsFollowTheF64Formula) {
  Runtime runtime;
  const int64_t n = 500;
  Values w64 = uniform_values("w", n, -1, 1), m64(n, 0.0), v64(n, 0.0);
  w64 = rounded(w64, DType::kF32);
  Tensor w = from_values(runtime, w64, {n}, DType::kF32);
  Tensor m = zeros(runtime, {n}, DType::kF32), v = zeros(runtime, {n}, DType::kF32), none;
  for (int step = 1; step <= 20; ++step) {
    StepState state{.updates = step, .lr = 1e-2, .grad_factor = 0.7, .beta2 = 0.95};
    state.bias1 = 1 - std::pow(0.9, step);
    state.bias2 = 1 - std::pow(0.95, step);
    const Values grad = rounded(normal_values(fmt::format("grad.{}", step), n), DType::kF32);
    const auto next = composed(grad, w64, m64, v64, state, kOptions);
    w64 = next[0], m64 = next[1], v64 = next[2];
    const Tensor g = from_values(runtime, grad, {n}, DType::kF32);
    adamw_update(Device::kCpu, g, step_state_tensor(runtime, state), kOptions, w, none, m, v);
  }
  EXPECT_LE(rel_frobenius(to_values(w), w64), 1e-6);
  EXPECT_LE(rel_frobenius(to_values(m), m64), 1e-6);
  EXPECT_LE(rel_frobenius(to_values(v), v64), 1e-6);
}

}  // namespace
}  // namespace ink
