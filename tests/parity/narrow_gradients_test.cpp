// Training with bf16 gradients beside the same training with f32 ones, everything else in bf16: one
// gradient, sums over micro-batches and ranks, golden steps, a run of some length.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>
#include <random>

#include "engine/autograd/backward.h"
#include "optim/policy/gradient_type.h"
#include "parallel/comm/self_group.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/compare.h"
#include "tests/support/golden_run.h"
#include "tests/support/group_ranks.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

// What independent addends leave, as a relative distance (optim/policy/gradient_type.h).
double usual_error(int64_t additions) {
  return 1.25 * 0x1p-10 * std::sqrt(static_cast<double>(additions)) + 0x1p-11;
}

TraineeOptions narrow(StateDtype gradients, StateDtype moments = StateDtype::kBf16) {
  TraineeOptions options;
  options.compute = DType::kBF16;
  options.optim.state_dtype = moments;
  options.optim.grad_dtype = gradients;
  return options;
}

bool is_vector(const std::string& name) { return name.find("norm") != std::string::npos; }

class NarrowGradients : public testing::Test {
 protected:
  // The rows of a step in `parts` micro-batches, of which `rank` of `ranks` takes its share.
  std::vector<HostBatch> micro_batches(int64_t step, int64_t parts, int64_t ranks = 1,
                                       int64_t rank = 0) const {
    std::vector<HostBatch> batches;
    for (int64_t part = rank * parts; part < (rank + 1) * parts; ++part) {
      const int64_t first = part * fixture_.rows() / (parts * ranks);
      const int64_t end = (part + 1) * fixture_.rows() / (parts * ranks);
      std::vector<int64_t> taken(static_cast<size_t>(end - first));
      std::iota(taken.begin(), taken.end(), first);
      batches.push_back(fixture_.pack(step, taken));
    }
    return batches;
  }
  // Those of the first step, before clipping.
  NamedValues gradients(StateDtype dtype, int64_t parts, const char* model) const {
    const Golden golden(model);
    Trainee trainee(golden, *alone_, narrow(dtype));
    (void)trainee.step().run(micro_batches(0, parts), fixture_.trained(0), 1);
    return trainee.gradients();
  }

  Fixture fixture_;
  std::unique_ptr<ProcessGroup> alone_ = make_self_group();
};

TEST_F(NarrowGradients, OneMicroBatchIsRoundedOnce) {
  const NamedValues want = gradients(StateDtype::kF32, 1, "internlm2");
  const NamedValues got = gradients(StateDtype::kBf16, 1, "internlm2");
  for (const auto& [name, values] : want)
    EXPECT_EQ(got.at(name), is_vector(name) ? values : rounded(values, DType::kBF16)) << name;
}

// Tied embeddings add twice for every micro-batch: for the head, and for the input.
TEST_F(NarrowGradients, MicroBatchesAddWithinTheUsualError) {
  for (const char* model : {"internlm2", "internlm2_tied"}) {
    for (const int64_t parts : {int64_t{2}, fixture_.rows()}) {
      const NamedValues want = gradients(StateDtype::kF32, parts, model);
      const NamedValues got = gradients(StateDtype::kBf16, parts, model);
      for (const auto& [name, values] : want) {
        const bool twice = name.find("tok_embeddings") != std::string::npos;
        EXPECT_LE(rel_frobenius(got.at(name), values), usual_error(twice ? 2 * parts : parts))
            << model << " " << name << " of " << parts;
        if (!is_vector(name)) {
          EXPECT_GT(rel_frobenius(got.at(name), values), 1e-3) << name << " is not in bf16";
        }
      }
    }
  }
}

enum class Rounding { kNearest, kStochastic };

// What bf16 keeps of a sum, up with the probability of what is cut off.
Values stochastically_rounded(const Values& sum, std::mt19937& random) {
  Values kept = sum;
  for (double& value : kept) {
    const uint32_t word = std::bit_cast<uint32_t>(static_cast<float>(value));
    const auto up = static_cast<uint32_t>(random() & 0xffffu);
    value = double{std::bit_cast<float>((word + up) & 0xffff0000u)};
  }
  return kept;
}

// How far n additions of bf16 end from the exact sum, and which share of it they lose.
struct Loss {
  double distance = 0, bias = 0;
};
Loss loss_of(int64_t additions, double agreement, Rounding rounding = Rounding::kNearest) {
  constexpr int64_t kElements = 4000;
  Runtime runtime;
  std::mt19937 random(1);
  Tensor sum = zeros(runtime, {kElements}, DType::kBF16);
  Values exact(kElements), kept(kElements);
  const Values common = normal_values("common", kElements);
  for (int64_t n = 0; n < additions; ++n) {
    Values addend = normal_values(fmt::format("addend {}", n), kElements);
    for (size_t i = 0; i < addend.size(); ++i) {
      addend[i] = agreement * common[i] + (1 - agreement) * addend[i];
      exact[i] += addend[i];
      kept[i] += addend[i];
    }
    if (rounding == Rounding::kNearest) {
      accumulate(Device::kCpu, from_values(runtime, addend, {kElements}, DType::kF32), sum);
    } else {
      kept = stochastically_rounded(kept, random);
    }
  }
  const Values got = rounding == Rounding::kNearest ? to_values(sum) : kept;
  const double along = std::inner_product(got.begin(), got.end(), exact.begin(), 0.0);
  const double whole = std::inner_product(exact.begin(), exact.end(), exact.begin(), 0.0);
  return {rel_frobenius(got, exact), along / whole - 1};
}

// The numbers of gradient_type.h, and why there is a limit.
TEST(NarrowAdditions, AreCloseAndUnbiasedUpToTheLimitAndStandStillFarBeyond) {
  const Loss independent = loss_of(kMostNarrowAdditions, 0),
             equal = loss_of(kMostNarrowAdditions, 1);
  EXPECT_LE(independent.distance, usual_error(kMostNarrowAdditions));
  EXPECT_NEAR(independent.bias, 0, 2e-3);
  EXPECT_LE(equal.distance, 0.035);
  EXPECT_NEAR(equal.bias, 0, 5e-3);
  EXPECT_LT(loss_of(8 * kMostNarrowAdditions, 1).bias, -0.2);
}

// Why not: it is unbiased however many there are, and farther for as many as are allowed.
TEST(NarrowAdditions, ToNearestAreCloserThanStochasticOnes) {
  for (const int64_t additions : {int64_t{4}, int64_t{16}, kMostNarrowAdditions}) {
    const double nearest = loss_of(additions, 0).distance;
    const double stochastic = loss_of(additions, 0, Rounding::kStochastic).distance;
    EXPECT_NEAR(stochastic / nearest, 1.4, 0.1) << additions;
  }
}

TEST(NarrowAdditions, WhatIsNotBuiltIsRefused) {
  OptimSection optim;
  EXPECT_EQ(gradient_dtype(optim, DType::kF32, 1000, 1000), DType::kF32);
  optim.grad_dtype = StateDtype::kBf16;
  EXPECT_EQ(gradient_dtype(optim, DType::kBF16, 64, 1), DType::kBF16);
  EXPECT_EQ(gradient_dtype(optim, DType::kBF16, 33, 32), DType::kBF16);
  expect_error(ExitCode::kConfig,
               {"optim.grad_dtype", "at most 64", "33 micro-batches", "33 ranks"},
               [&] { (void)gradient_dtype(optim, DType::kBF16, 33, 33); });
  for (const DType compute : {DType::kF32, DType::kF16})
    expect_error(ExitCode::kConfig, {"optim.grad_dtype", std::string(name_of(compute))},
                 [&] { (void)gradient_dtype(optim, compute, 1, 1); });
}

TEST_F(NarrowGradients, TenGoldenStepsStayBesideF32Gradients) {
  for (const char* model : {"internlm2", "internlm2_tied", "internlm2_wide"}) {
    const Golden golden(model);
    for (const StateDtype moments : {StateDtype::kF32, StateDtype::kBf16}) {
      Trainee wide(golden, *alone_, narrow(StateDtype::kF32, moments));
      Trainee small(golden, *alone_, narrow(StateDtype::kBf16, moments));
      const Series want = train(wide, fixture_), got = train(small, fixture_);
      for (size_t t = 0; t < want.losses.size(); ++t) {
        EXPECT_NEAR(got.losses[t], want.losses[t], 5e-4 * want.losses[t]) << model << " step " << t;
        EXPECT_NEAR(got.norms[t], want.norms[t], 3e-3 * want.norms[t]) << model << " step " << t;
      }
    }
  }
}

// 120 steps over ten batches that come again and again, in one micro-batch and in four. Moments in
// bf16 are rounded stochastically, so two runs that differ at all draw apart; ten steps at a time.
TEST_F(NarrowGradients, ALongRunLearnsAsWellOfTheTree) {
  if (!golden_is_of_the_tree()) GTEST_SKIP() << kOfTheTree;
  const Golden golden("internlm2_tied");
  for (const int64_t parts : {1, 4}) {
    const auto run = [&](StateDtype gradients) {
      Trainee trainee(golden, *alone_, narrow(gradients));
      std::vector<double> means;
      for (int64_t step = 0; step < 120; ++step) {
        const auto batches = micro_batches(step % fixture_.steps(), parts);
        const double loss =
            trainee.step().run(batches, fixture_.trained(step % fixture_.steps()), step + 1).loss;
        if (step % 10 == 0) means.push_back(0);
        means.back() += loss / 10;
      }
      return means;
    };
    const std::vector<double> want = run(StateDtype::kF32), got = run(StateDtype::kBf16);
    EXPECT_LT(want.back(), 0.75 * want.front()) << "nothing was learned";
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(got[i], want[i], 2e-3 * want[i]) << "steps from " << 10 * i + 1;
  }
}

// Two ranks add in bf16 what each has rounded: the same bits on both, beside the sum of one rank by
// the error of these additions.
TEST_F(NarrowGradients, RanksAgreeAndFollowOneRank) {
  const Golden golden("internlm2");
  const TraineeOptions options = narrow(StateDtype::kBf16);
  struct Trace {
    std::vector<double> losses;
    NamedValues first_gradients, parameters;
    bool operator==(const Trace&) const = default;
  };
  const auto run = [&](ProcessGroup& group) {
    Trainee trainee(golden, group, options);
    Trace trace;
    for (int64_t step = 0; step < 4; ++step) {
      const auto batches = micro_batches(step, 2, group.size(), group.rank());
      trace.losses.push_back(trainee.step().run(batches, fixture_.trained(step), step + 1).loss);
      if (step == 0) trace.first_gradients = trainee.gradients();
    }
    trace.parameters = trainee.parameters();
    return trace;
  };
  const Trace serial = run(*alone_);
  std::vector<Trace> ranks(2);
  run_group(2, [&](ProcessGroup& group) { ranks[static_cast<size_t>(group.rank())] = run(group); });
  EXPECT_TRUE(ranks[0] == ranks[1]);
  for (size_t t = 0; t < serial.losses.size(); ++t)
    EXPECT_NEAR(ranks[0].losses[t], serial.losses[t], (t == 0 ? 1e-6 : 1e-3) * serial.losses[t]);
  // Another grouping of the rows changes the products' own rounding too, hence 3.
  for (const auto& [name, values] : serial.first_gradients)
    EXPECT_LE(rel_frobenius(ranks[0].first_gradients.at(name), values),
              3 * usual_error(narrow_additions(2, 2)))
        << name;
}

}  // namespace
}  // namespace ink
