// The switches of train.compat that the optimizer follows, each beside what happens without it.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/nn/builder.h"
#include "optim/policy/step_options.h"
#include "optim/update/adamw.h"
#include "tests/support/values.h"

namespace ink {
namespace {

// A linear layer with a bias, and a norm: one matrix and two vectors.
struct Toy {
  explicit Toy(const OptimSection& optim, const Compat& compat, DType compute = DType::kF32) {
    SerialBuilder builder(table);
    linear = builder.linear("wo", 4, 3, {.bias = true, .init_std = 0.5f});
    norm = builder.norm("norm", 3, 1e-5f);
    table.materialize(runtime, compute);
    table.initialize(3);
    optimizer = std::make_unique<AdamW>(runtime, table, optim, 100, 0, compat);
    optimizer->initialize_masters(3);
  }
  // Gradients of one value in the matrix and another in the vectors.
  void step(double in_matrix, double in_vectors) {
    for (const auto& parameter : table.all()) {
      Leaf& leaf = *parameter->leaf();
      const double value = parameter->shape.rank() == 2 ? in_matrix : in_vectors;
      leaf.grad = from_values(runtime, Values(static_cast<size_t>(parameter->shape.numel()), value),
                              parameter->shape, DType::kF32);
      leaf.has_grad = true;
    }
    optimizer->step();
  }
  Values value(std::string_view name) const {
    const Tensor& t = table.find(name)->value();
    return to_values(t.reshape({t.numel()}));
  }
  // The first element of m after one step from zero: (1 - beta1) * g * factor.
  double moment(size_t slot) {
    const Tensor& m = optimizer->slots()[slot].m;
    return to_values(m.reshape({m.numel()}))[0];
  }
  std::vector<GroupNorm> norms() const {
    return group_norms(optimizer->norm_groups(), to_vector<double>(optimizer->squares()),
                       optimizer->state().grad_norm);
  }

  Runtime runtime;
  ParameterTable table;
  std::unique_ptr<Linear> linear;
  std::unique_ptr<Norm> norm;
  std::unique_ptr<AdamW> optimizer;
};

constexpr size_t kMatrix = 0, kBias = 1, kNorm = 2;  // slots

OptimSection recipe() {
  OptimSection optim;
  optim.lr = 0.1;
  optim.schedule = ScheduleType::kConstant;
  optim.betas = {0.5, 0.5};
  optim.weight_decay = 0.25;
  optim.clip_norm = 1.0;
  return optim;
}

// With gradients of zero the update is the decay alone: w (1 - lr wd).
TEST(Compat, DecayAllReachesNormsAndBiases) {
  Toy own(recipe(), {}), all(recipe(), {.decay_all = true});
  const Values matrix = own.value("wo.weight"), norm = own.value("norm.weight");
  own.step(0, 0);
  all.step(0, 0);
  for (const Toy* toy : {&own, &all})
    EXPECT_NEAR(toy->value("wo.weight")[5], matrix[5] * (1 - 0.025), 1e-6);
  EXPECT_EQ(own.value("norm.weight"), norm);
  EXPECT_NEAR(all.value("norm.weight")[1], norm[1] * (1 - 0.025), 1e-6);
}

// The matrix has 12 elements of 3, norm sqrt(108); the vectors 6 of 0.25, norm sqrt(0.375) < 1.
TEST(Compat, ClipPerGroupClipsEveryGroupByItsOwnNorm) {
  Toy own(recipe(), {}), grouped(recipe(), {.clip_per_group = true});
  own.step(3, 0.25);
  grouped.step(3, 0.25);
  const double all = std::sqrt(108.375), matrix = std::sqrt(108.0), vectors = std::sqrt(0.375);
  EXPECT_NEAR(own.moment(kMatrix), 0.5 * 3 / (all + 1e-6), 1e-6);
  EXPECT_NEAR(own.moment(kNorm), 0.5 * 0.25 / (all + 1e-6), 1e-6);
  EXPECT_NEAR(grouped.moment(kMatrix), 0.5 * 3 / (matrix + 1e-6), 1e-6);
  EXPECT_NEAR(grouped.moment(kBias), 0.5 * 0.25, 1e-6);
  EXPECT_NEAR(grouped.moment(kNorm), 0.5 * 0.25, 1e-6);

  EXPECT_TRUE(own.optimizer->norm_groups().empty());
  const std::vector<GroupNorm> norms = grouped.norms();
  ASSERT_EQ(norms.size(), 3u);
  EXPECT_EQ(norms[0].name, "0_decay");
  EXPECT_NEAR(norms[0].norm, matrix, 1e-9);
  EXPECT_EQ(norms[1].name, "1_no_decay");
  EXPECT_NEAR(norms[1].norm, vectors, 1e-9);
  EXPECT_EQ(norms[2].name, "2_fp32");
  EXPECT_EQ(norms[2].norm, 0);
  EXPECT_EQ(grouped.optimizer->state().updates, 1);
}

TEST(Compat, AGroupThatIsNotFiniteSkipsTheStepForAll) {
  Toy toy(recipe(), {.clip_per_group = true});
  const Values matrix = toy.value("wo.weight"), norm = toy.value("norm.weight");
  toy.step(3, INFINITY);
  EXPECT_EQ(toy.optimizer->state().skip, 1);
  EXPECT_EQ(toy.optimizer->state().updates, 0);
  EXPECT_EQ(toy.value("wo.weight"), matrix);
  EXPECT_EQ(toy.value("norm.weight"), norm);
  EXPECT_EQ(toy.norms()[1].norm, -1);
  toy.step(3, NAN);
  EXPECT_EQ(toy.norms()[1].norm, -2);
  EXPECT_EQ(toy.norms()[0].norm, 0);
}

// With one group of all parameters the norm is the one over all, under the reference's name.
TEST(Compat, DecayAllLeavesOneGroupBesideThoseOfTheUser) {
  OptimSection optim = recipe();
  Toy one(optim, {.clip_per_group = true, .decay_all = true});
  one.step(3, 0.25);
  EXPECT_EQ(one.norms()[0].name, "0_default");
  EXPECT_NEAR(one.norms()[0].norm, std::sqrt(108.375), 1e-9);
  EXPECT_EQ(one.norms()[1].name, "1_fp32");
  optim.groups = {{.match = "norm.*", .lr = {}, .weight_decay = {}}};
  Toy two(optim, {.clip_per_group = true, .decay_all = true});
  two.step(3, 0.25);
  EXPECT_EQ(two.norms()[2].name, "2_norm.*");
  EXPECT_NEAR(two.norms()[2].norm, std::sqrt(3 * 0.0625), 1e-9);
}

TEST(Compat, Bf16HasADynamicLossScale) {
  Toy own(recipe(), {}, DType::kBF16), scaled(recipe(), {.bf16_loss_scale = true}, DType::kBF16);
  EXPECT_EQ(own.optimizer->state().loss_scale, 1);
  EXPECT_EQ(scaled.optimizer->state().loss_scale, 65536);
  // Gradients of 65536 are gradients of 1 under this scale.
  scaled.step(65536, 0);
  EXPECT_NEAR(scaled.optimizer->state().grad_norm, std::sqrt(12.0), 1e-9);
  EXPECT_NEAR(scaled.moment(kMatrix), 0.5 / (std::sqrt(12.0) + 1e-6), 1e-6);
  for (int i = 0; i < 2; ++i) scaled.step(INFINITY, 0);
  EXPECT_EQ(scaled.optimizer->state().loss_scale, 32768);
  Toy f32(recipe(), {.bf16_loss_scale = true});
  EXPECT_EQ(f32.optimizer->state().loss_scale, 1);
}

TEST(Compat, ClipZeroTakesGradientsAsTheyAre) {
  OptimSection optim = recipe();
  optim.clip_norm = 0;
  const Compat compat{.bf16_loss_scale = true, .clip_zero = true};
  Toy own(optim, {.bf16_loss_scale = true}, DType::kBF16), zero(optim, compat, DType::kBF16);
  own.step(65536, 0);
  zero.step(65536, 0);
  EXPECT_NEAR(own.moment(kMatrix), 0.5, 1e-6);
  EXPECT_NEAR(zero.moment(kMatrix), 0.5 * 65536, 1e-3);  // with the loss scale in it
  EXPECT_EQ(zero.optimizer->state().grad_norm, 0);
  own.step(NAN, 0);
  zero.step(NAN, 0);
  EXPECT_EQ(own.optimizer->state().skip, 1);
  EXPECT_EQ(zero.optimizer->state().skip, 0);
  EXPECT_EQ(zero.optimizer->state().updates, 2);
  EXPECT_TRUE(std::isnan(zero.moment(kMatrix)));
  // Above zero the switch changes nothing.
  EXPECT_FALSE(step_options(recipe(), 100, compat).unchecked);
}

}  // namespace
}  // namespace ink
