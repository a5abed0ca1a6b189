// AdamW over a parameter table: against f64, decay groups, steps without gradients, 16-bit states.
#include <gtest/gtest.h>

#include <cmath>

#include "models/family.h"
#include "parallel/comm/self_group.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

// An embedding, a linear layer with a bias and a norm.
struct Toy {
  explicit Toy(const OptimSection& optim, DType compute = DType::kF32) {
    SerialBuilder builder(table);
    embedding = builder.embedding("embedding", 11, 6, 0.5f);
    linear = builder.linear("layers.0.attention.wo", 6, 5, {.bias = true, .init_std = 0.5f});
    norm = builder.norm("norm", 5, 1e-5f);
    table.materialize(runtime, compute);
    table.initialize(3);
    optimizer = std::make_unique<AdamW>(runtime, table, optim, 100, 0);
    optimizer->initialize_masters(3);
  }
  void set_gradients(const std::function<Values(const Parameter&)>& make) {
    for (const auto& parameter : table.all()) {
      Leaf& leaf = *parameter->leaf();
      leaf.grad = from_values(runtime, make(*parameter), parameter->shape, DType::kF32);
      leaf.has_grad = true;
    }
  }
  void set_gradients_to(double value) {
    set_gradients(
        [&](const Parameter& p) { return Values(static_cast<size_t>(p.shape.numel()), value); });
  }
  Values value(std::string_view name) const {
    const Tensor& t = table.find(name)->value();
    return to_values(t.reshape({t.numel()}));
  }
  std::string bad_gradient() const {
    return optimizer->first_nonfinite(to_vector<double>(optimizer->squares()));
  }
  std::map<std::string, Values> values() const {
    std::map<std::string, Values> all;
    for (const auto& parameter : table.all()) all[parameter->name] = value(parameter->name);
    return all;
  }

  Runtime runtime;
  ParameterTable table;
  std::unique_ptr<Embedding> embedding;
  std::unique_ptr<Linear> linear;
  std::unique_ptr<Norm> norm;
  std::unique_ptr<AdamW> optimizer;
};

Values gradient_of(const Parameter& parameter, int step) {
  return normal_values(fmt::format("{} {}", parameter.name, step), parameter.shape.numel());
}

TEST(Optimizer, TwentyStepsAgainstF64) {
  OptimSection optim = golden_recipe();
  optim.clip_norm = 3.0;
  Toy toy(optim);
  std::map<std::string, Values> w = toy.values(), m, v;
  for (int step = 1; step <= 20; ++step) {
    double squares = 0;
    for (const auto& parameter : toy.table.all()) {
      for (const double g : gradient_of(*parameter, step))
        squares += static_cast<double>(static_cast<float>(g)) * static_cast<float>(g);
    }
    const double clip = std::max(1.0, (std::sqrt(squares) + 1e-6) / optim.clip_norm);
    EXPECT_GT(clip, 1.0) << "clipping is not active";
    const double lr = optim.lr * std::min(1.0, step / 4.0);
    for (const auto& parameter : toy.table.all()) {
      const std::string& name = parameter->name;
      const Values g = gradient_of(*parameter, step);
      m[name].resize(g.size());
      v[name].resize(g.size());
      const double decay = parameter->shape.rank() >= 2 ? 0.1 : 0.0;
      for (size_t i = 0; i < g.size(); ++i) {
        const double clipped = g[i] / clip;
        m[name][i] = 0.9 * m[name][i] + 0.1 * clipped;
        v[name][i] = 0.95 * v[name][i] + 0.05 * clipped * clipped;
        const double mean = m[name][i] / (1 - std::pow(0.9, step));
        const double square = v[name][i] / (1 - std::pow(0.95, step));
        w[name][i] -= lr * decay * w[name][i] + lr * mean / (std::sqrt(square) + optim.eps);
      }
    }
    toy.set_gradients([&](const Parameter& p) { return gradient_of(p, step); });
    toy.optimizer->step();
    EXPECT_NEAR(toy.optimizer->state().grad_norm, std::sqrt(squares), 1e-9 * std::sqrt(squares));
  }
  EXPECT_EQ(toy.optimizer->state().updates, 20);
  expect_close(toy.values(), w, 1e-6, "parameter");
}

// A step with zero gradients: matrices shrink by exactly lr * wd, norms and biases stay.
TEST(Optimizer, DecayReachesMatricesOnly) {
  OptimSection optim = golden_recipe();
  optim.warmup_steps = 0;
  Toy toy(optim);
  const auto before = toy.values();
  toy.set_gradients_to(0.0);
  toy.optimizer->step();
  for (const auto& [name, start] : before) {
    const Values now = toy.value(name);
    const bool matrix = toy.table.find(name)->shape.rank() >= 2;
    for (size_t i = 0; i < start.size(); ++i) {
      if (matrix) {
        EXPECT_NEAR(now[i], start[i] * (1 - 1e-3 * 0.1), 1.2e-7 * std::abs(start[i])) << name;
        EXPECT_NE(now[i], start[i]) << name;
      } else {
        EXPECT_EQ(now[i], start[i]) << name;
      }
    }
  }
}

TEST(Optimizer, GroupsOverrideRateAndDecay) {
  OptimSection optim = golden_recipe();
  optim.warmup_steps = 0;
  optim.groups = {{.match = "*.attention.*", .lr = 5e-4, .weight_decay = 0.5},
                  {.match = "*", .weight_decay = 0.0}};
  Toy toy(optim);
  const auto before = toy.values();
  toy.set_gradients_to(0.0);
  toy.optimizer->step();
  EXPECT_EQ(toy.value("embedding.weight"), before.at("embedding.weight"));
  EXPECT_EQ(toy.value("norm.weight"), before.at("norm.weight"));
  const Values& start = before.at("layers.0.attention.wo.weight");
  const Values now = toy.value("layers.0.attention.wo.weight");
  for (size_t i = 0; i < start.size(); ++i)
    EXPECT_NEAR(now[i], start[i] * (1 - 5e-4 * 0.5), 1.2e-7 * std::abs(start[i]));
}

TEST(Optimizer, GroupThatMatchesNothingIsRefused) {
  OptimSection optim = golden_recipe();
  optim.groups = {{.match = "layers.*"}, {.match = "layer.*"}};
  expect_error(ExitCode::kConfig, {"optim.groups.1.match", "layer.*"}, [&] { Toy toy(optim); });
}

// Moments and decay go on for a parameter that no micro-batch has touched, in a group of one as
// behind a reducer.
TEST(Optimizer, NoGradientIsAGradientOfZero) {
  OptimSection optim = golden_recipe();
  Toy untouched(optim), zeros(optim);
  for (int step = 1; step <= 3; ++step) {
    for (Toy* toy : {&untouched, &zeros}) {
      toy->set_gradients([&](const Parameter& p) { return gradient_of(p, step); });
    }
    zeros.set_gradients([&](const Parameter& p) {
      return p.name == "embedding.weight" ? Values(66, 0.0) : gradient_of(p, step);
    });
    Leaf& leaf = *untouched.table.find("embedding.weight")->leaf();
    if (step == 1) leaf.grad = Tensor();
    leaf.has_grad = false;
    untouched.optimizer->step();
    zeros.optimizer->step();
  }
  EXPECT_EQ(untouched.values(), zeros.values());
}

TEST(Optimizer, SkippedStepChangesNothing) {
  Toy toy(golden_recipe());
  toy.set_gradients([](const Parameter& p) { return gradient_of(p, 1); });
  toy.optimizer->step();
  const auto before = toy.values();
  const StepState clock = toy.optimizer->state();
  toy.set_gradients_to(1.0);
  toy.table.find("norm.weight")->grad().data<float>()[2] = std::nanf("");
  toy.optimizer->step();
  EXPECT_EQ(toy.bad_gradient(), "norm.weight");
  EXPECT_EQ(toy.values(), before);
  const StepState state = toy.optimizer->state();
  EXPECT_EQ(state.updates, clock.updates);
  EXPECT_EQ(state.skipped, 1);
  EXPECT_EQ(state.skip, 1);
  toy.set_gradients_to(1.0);
  toy.optimizer->step();
  EXPECT_EQ(toy.bad_gradient(), "");
  EXPECT_EQ(toy.optimizer->state().updates, clock.updates + 1);
  EXPECT_EQ(toy.optimizer->state().skipped_in_a_row, 0);
  EXPECT_NE(toy.values(), before);
}

TEST(Optimizer, Beta2Grows) {
  OptimSection optim = golden_recipe();
  optim.beta2_decay = 0.8;
  Toy toy(optim);
  for (int step = 1; step <= 60; ++step) {
    toy.set_gradients_to(0.1);
    toy.optimizer->step();
    EXPECT_NEAR(toy.optimizer->state().beta2, std::max(0.95, 1 - std::pow(step, -0.8)), 1e-15);
  }
}

// bf16 weights with f32 states: the master takes the update, the parameter is its rounding.
TEST(Optimizer, MastersCarryWhatBf16Cannot) {
  OptimSection optim = golden_recipe();
  optim.lr = 1e-5;
  optim.warmup_steps = 0;
  Toy toy(optim, DType::kBF16);
  for (int step = 1; step <= 3; ++step) {
    toy.set_gradients_to(1.0);
    toy.optimizer->step();
  }
  for (const OptimizerSlot& slot : toy.optimizer->slots()) {
    const Values master = to_values(slot.master.reshape({slot.master.numel()}));
    EXPECT_EQ(toy.value(slot.parameter->name), rounded(master, DType::kBF16));
    if (slot.parameter->name != "norm.weight") continue;
    for (const double w : master) EXPECT_NEAR(w, 1.0 - 3e-5, 1e-6);
    EXPECT_EQ(toy.value("norm.weight"), Values(5, 1.0)) << "too small to be seen in bf16";
  }
}

// f16 weights have masters whatever the moments, and a loss scale that gradients are freed of.
TEST(Optimizer, HalfPrecisionTrainsUnderALossScale) {
  const Golden golden("internlm2");
  const Fixture fixture;
  const auto alone = make_self_group();
  const auto train = [&](DType compute, StateDtype moments) {
    TraineeOptions options;
    options.compute = compute;
    options.optim.state_dtype = moments;
    Trainee trainee(golden, *alone, options);
    std::vector<StepResult> results;
    for (int64_t step = 1; step <= 3; ++step) {
      const HostBatch batch = fixture.pack(step - 1, {0, 3});
      results.push_back(trainee.step().run({&batch, 1}, batch.trained, step));
    }
    for (const OptimizerSlot& slot : trainee.optimizer().slots())
      EXPECT_EQ(slot.master.defined(), compute == DType::kF16);
    return results;
  };
  const auto want = train(DType::kF32, StateDtype::kF32);
  for (const StateDtype moments : {StateDtype::kF32, StateDtype::kBf16}) {
    const auto got = train(DType::kF16, moments);
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i].loss, want[i].loss, 2e-3 * want[i].loss);
      EXPECT_NEAR(got[i].state.grad_norm, want[i].state.grad_norm, 2e-2 * want[i].state.grad_norm);
      EXPECT_EQ(got[i].state.loss_scale, 65536.0);
      EXPECT_EQ(got[i].state.updates, static_cast<int64_t>(i) + 1);
    }
  }
}

// Overflow: nothing moves, the scale falls every second time; clean steps raise it again.
TEST(Optimizer, AnOverflowIsSkippedAndBacksOff) {
  const Golden golden("internlm2");
  const Fixture fixture;
  const auto alone = make_self_group();
  TraineeOptions options;
  options.compute = DType::kF16;
  Trainee trainee(golden, *alone, options);
  const HostBatch batch = fixture.pack(0, {0});
  int64_t step = 1;
  const auto run = [&] { return trainee.step().run({&batch, 1}, batch.trained, step++); };
  StepState state = trainee.optimizer().state();
  state.loss_scale = 0x1p24;
  trainee.optimizer().set_state(state);
  const NamedValues start = trainee.parameters();
  for (const double scale : {0x1p24, 0x1p23}) {
    const StepResult result = run();
    EXPECT_EQ(result.state.skip, 1);
    EXPECT_EQ(result.state.loss_scale, scale);
    EXPECT_FALSE(result.bad_gradient.empty());
    EXPECT_TRUE(std::isfinite(result.loss));
    EXPECT_EQ(trainee.parameters(), start);
  }
  state = trainee.optimizer().state();
  EXPECT_EQ(state.skipped, 2);
  EXPECT_EQ(state.updates, 0);
  state.loss_scale = 1024;
  state.clean_steps = 999;
  trainee.optimizer().set_state(state);
  const StepResult clean = run();
  EXPECT_EQ(clean.state.updates, 1);
  EXPECT_EQ(clean.state.loss_scale, 2048.0);
  EXPECT_NE(trainee.parameters(), start);
}

TEST(Optimizer, OtherTypesHaveNoLossScaleWhateverWasSaved) {
  Toy toy(golden_recipe(), DType::kBF16);
  StepState saved = toy.optimizer->state();
  EXPECT_EQ(saved.loss_scale, 1.0);
  saved.loss_scale = 65536;
  toy.optimizer->set_state(saved);
  EXPECT_EQ(toy.optimizer->state().loss_scale, 1.0);
}

// bf16 weights and states, no master: at lr 1e-5 nothing would ever leave its start with rounding
// to nearest.
TEST(Optimizer, StochasticRoundingMovesEveryTensor) {
  const Golden golden("internlm2");
  const Fixture fixture;
  const auto alone = make_self_group();
  TraineeOptions options;
  options.compute = DType::kBF16;
  options.optim.state_dtype = StateDtype::kBf16;
  options.optim.lr = 1e-5;
  options.optim.warmup_steps = 0;
  const auto train = [&] {
    Trainee trainee(golden, *alone, options);
    for (const OptimizerSlot& slot : trainee.optimizer().slots())
      EXPECT_FALSE(slot.master.defined());
    const NamedValues start = trainee.parameters();
    const HostBatch batch = fixture.pack(0, {3});
    for (int64_t step = 1; step <= 100; ++step)
      trainee.step().run({&batch, 1}, batch.trained, step);
    const NamedValues end = trainee.parameters();
    for (const auto& [name, values] : start) EXPECT_NE(end.at(name), values) << name;
    return end;
  };
  EXPECT_EQ(train(), train());
}

}  // namespace
}  // namespace ink
