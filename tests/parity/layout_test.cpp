// Data-parallel layouts, ranks as threads, against one rank with the same global batches.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "parallel/comm/self_group.h"
#include "tests/support/group_ranks.h"
#include "tests/support/late_group.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

struct Layout {
  int data = 1;
  int64_t accumulation = 1;
  Recompute recompute = Recompute::kNone;
  bool overlap = true;
  double dropout = 0;
  const char* model = "internlm2";
};

std::string name_of(const Layout& l) {
  constexpr const char* kModes[] = {"None", "Selective", "Full"};
  return fmt::format("{}_dp{}_acc{}_{}{}{}", l.model, l.data, l.accumulation,
                     kModes[static_cast<int>(l.recompute)], l.overlap ? "" : "_blocking",
                     l.dropout > 0 ? "_dropout" : "");
}

// What one rank saw and holds after its steps.
struct Trace {
  std::vector<double> losses, norms;
  std::vector<NamedValues> gradients;  // of every step, after reduction, before clipping
  NamedValues parameters, first_moments, second_moments;
  StepState state;

  friend bool operator==(const Trace& a, const Trace& b) {
    return a.losses == b.losses && a.norms == b.norms && a.gradients == b.gradients &&
           a.parameters == b.parameters && a.first_moments == b.first_moments &&
           a.second_moments == b.second_moments;
  }
};

// Test-side mutations: what a rank does to its micro-batches and to the divisor it uses.
struct Mutation {
  std::function<void(HostBatch&, int rank)> edit;
  std::function<int64_t(int64_t trained, int64_t local)> divisor;
  std::function<void(Trainee&, int rank)> spoil;
  std::optional<LateOptions> late;  // collectives arrive late; perhaps one wait is left out
};

Trace run_rank(const Layout& layout, ProcessGroup& group, const Golden& golden,
               const Fixture& fixture, int64_t steps, const Mutation& mutation) {
  TraineeOptions options;
  options.recompute = layout.recompute;
  options.overlap = layout.overlap;
  options.dropout = layout.dropout;
  Trainee trainee(golden, group, options);
  const int64_t parts = layout.data * layout.accumulation;
  Trace trace;
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<HostBatch> micro_batches;
    int64_t local = 0, trained = 0;
    for (int64_t b = 0; b < parts; ++b) {
      std::vector<int64_t> rows;
      for (int64_t row = b * fixture.rows() / parts; row < (b + 1) * fixture.rows() / parts; ++row)
        rows.push_back(row);
      HostBatch batch = fixture.pack(step, rows);
      const auto rank = static_cast<int>(b / layout.accumulation);
      if (mutation.edit) mutation.edit(batch, rank);
      trained += batch.trained;
      if (rank != group.rank()) continue;
      local += batch.trained;
      micro_batches.push_back(std::move(batch));
    }
    if (mutation.divisor) trained = mutation.divisor(trained, local);
    std::function<void()> spoil;
    if (mutation.spoil) spoil = [&] { mutation.spoil(trainee, group.rank()); };
    const StepResult result = trainee.step().run(micro_batches, trained, step + 1, spoil);
    trace.losses.push_back(result.loss);
    trace.norms.push_back(result.state.grad_norm);
    if (!result.empty) trace.gradients.push_back(trainee.gradients());
  }
  trace.parameters = trainee.parameters();
  trace.first_moments = trainee.first_moments();
  trace.second_moments = trainee.second_moments();
  trace.state = trainee.optimizer().state();
  return trace;
}

// As many steps as the fixture has, unless told otherwise.
std::vector<Trace> train(const Layout& layout, std::optional<int64_t> steps = {},
                         const Mutation& mutation = {}) {
  const Golden golden(layout.model);
  const Fixture fixture;
  std::vector<Trace> traces(static_cast<size_t>(layout.data));
  run_group(layout.data, [&](ProcessGroup& group) {
    std::optional<LateGroup> late;
    if (mutation.late) late.emplace(group, *mutation.late);
    traces[static_cast<size_t>(group.rank())] = run_rank(
        layout, late ? *late : group, golden, fixture, steps.value_or(fixture.steps()), mutation);
  });
  return traces;
}

// Tied embeddings count once: the map of Hugging Face names holds them once.
double norm_of(const NamedValues& gradients) {
  double sum = 0;
  for (const auto& [name, values] : gradients) {
    for (const double value : values) sum += value * value;
  }
  return std::sqrt(sum);
}

double relative(double got, double want) { return std::abs(got - want) / std::abs(want); }

void expect_replicas_equal(const std::vector<Trace>& ranks) {
  for (size_t r = 1; r < ranks.size(); ++r)
    EXPECT_TRUE(ranks[r] == ranks[0]) << "rank " << r << " differs from rank 0";
}

void expect_parity(const Trace& got, const Trace& serial) {
  ASSERT_EQ(got.losses.size(), serial.losses.size());
  for (size_t t = 0; t < got.losses.size(); ++t) {
    EXPECT_LE(relative(got.losses[t], serial.losses[t]), t == 0 ? 1e-6 : 1e-5) << "step " << t + 1;
    EXPECT_LE(relative(got.norms[t], norm_of(got.gradients[t])), 1e-6) << "step " << t + 1;
  }
  expect_close(got.gradients[0], serial.gradients[0], 1e-5, "gradient of step 1");
  expect_close(got.parameters, serial.parameters, 1e-5, "parameter after the last step");
  expect_close(got.first_moments, serial.first_moments, 1e-5, "m after the last step");
  expect_close(got.second_moments, serial.second_moments, 1e-5, "v after the last step");
}

class LayoutParity : public testing::TestWithParam<Layout> {};

TEST_P(LayoutParity, EqualsOneRank) {
  const Layout& layout = GetParam();
  if (Fixture().rows() < layout.data * layout.accumulation)
    GTEST_SKIP() << "fewer rows than micro-batches";
  const Trace serial = train({.dropout = layout.dropout, .model = layout.model})[0];
  EXPECT_GT(serial.norms[0], 0.5) << "clipping is not active";
  const std::vector<Trace> ranks = train(layout);
  expect_replicas_equal(ranks);
  expect_parity(ranks[0], serial);
}

constexpr auto kNone = Recompute::kNone;
constexpr auto kSelective = Recompute::kSelective;
constexpr auto kFull = Recompute::kFull;

// Every pair of (ranks, accumulation, recomputation) once.
INSTANTIATE_TEST_SUITE_P(Pairwise, LayoutParity,
                         testing::Values(Layout{1, 1, kFull}, Layout{1, 2, kNone},
                                         Layout{1, 4, kSelective}, Layout{2, 1, kNone},
                                         Layout{2, 2, kSelective, false}, Layout{2, 4, kFull},
                                         Layout{4, 1, kSelective}, Layout{4, 2, kFull},
                                         Layout{4, 4, kNone, false},
                                         Layout{.data = 4, .model = "internlm2_tied"},
                                         Layout{.data = 2, .accumulation = 2, .model = "internlm1"},
                                         Layout{.data = 2, .accumulation = 2, .dropout = 0.1},
                                         Layout{.data = 4, .recompute = kFull, .dropout = 0.1}),
                         [](const auto& info) { return name_of(info.param); });

TEST(LayoutBits, SameLayoutTwice) {
  const Layout layout{.data = 2, .accumulation = 2};
  EXPECT_TRUE(train(layout, 4) == train(layout, 4));
}

TEST(LayoutBits, OverlapOnAndOff) {
  for (const int data : {2, 4}) {
    EXPECT_TRUE(train({.data = data, .accumulation = 2}, 4) ==
                train({.data = data, .accumulation = 2, .overlap = false}, 4))
        << data << " ranks";
  }
}

// Pauses around every call and results at the last moment are as good as none.
TEST(LayoutBits, LateCollectives) {
  const Layout layout{.data = 2, .accumulation = 2};
  const std::vector<Trace> plain = train(layout, 4);
  for (const uint64_t seed : {1, 2}) {
    EXPECT_TRUE(train(layout, 4, {.late = LateOptions{.seed = seed}}) == plain) << seed;
    Layout blocking = layout;
    blocking.overlap = false;
    EXPECT_TRUE(train(blocking, 4, {.late = LateOptions{.seed = seed}}) == plain) << seed;
  }
}

TEST(LayoutBits, RecomputationOnAndOff) {
  const Layout layout{.data = 2, .accumulation = 2, .dropout = 0.1};
  const std::vector<Trace> plain = train(layout, 4);
  for (const Recompute mode : {kSelective, kFull}) {
    Layout again = layout;
    again.recompute = mode;
    EXPECT_TRUE(train(again, 4) == plain) << static_cast<int>(mode);
  }
}

// A rank without a single trained token takes part like any other.
TEST(LayoutMasks, OneRankFullyMasked) {
  const Mutation mask{.edit = [](HostBatch& batch, int rank) {
    if (rank == 1) mask_all_labels(batch);
  }};
  const Fixture fixture;
  const int64_t half = fixture.rows() / 2 * fixture.length();
  const Mutation mask_half{.edit = [half](HostBatch& batch, int) {
    for (size_t t = 0; t < batch.labels.size(); ++t) {
      if (batch.token_ids[t] >= half) batch.labels[t] = -100;
    }
    batch.trained = count_trained(batch.labels);
  }};
  const Trace serial = train({}, {}, mask_half)[0];
  for (const Recompute mode : {kNone, kFull}) {
    const std::vector<Trace> ranks = train({.data = 2, .recompute = mode}, {}, mask);
    expect_replicas_equal(ranks);
    expect_parity(ranks[0], serial);
  }
}

TEST(LayoutMasks, WholeBatchMaskedIsAnEmptyStep) {
  const Mutation mask{.edit = [](HostBatch& batch, int) { mask_all_labels(batch); }};
  const std::vector<Trace> ranks = train({.data = 2}, 2, mask);
  const std::vector<Trace> start = train({.data = 2}, 0);
  for (size_t r = 0; r < 2; ++r) {
    EXPECT_EQ(ranks[r].parameters, start[r].parameters);
    EXPECT_EQ(ranks[r].state.updates, 0);
    EXPECT_EQ(ranks[r].losses, std::vector<double>(2, 0.0));
  }
}

TEST(LayoutFaults, NonFiniteGradientOfOneRankSkipsTheStepOnAll) {
  for (const double poison :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const Mutation spoil{.spoil = [poison](Trainee& trainee, int rank) {
      if (rank != 1) return;
      trainee.table().all()[3]->grad().data<float>()[5] = static_cast<float>(poison);
    }};
    const std::vector<Trace> ranks = train({.data = 4}, 2, spoil);
    const std::vector<Trace> start = train({.data = 4}, 0);
    for (size_t r = 0; r < ranks.size(); ++r) {
      EXPECT_EQ(ranks[r].parameters, start[r].parameters) << "rank " << r;
      EXPECT_EQ(ranks[r].first_moments, start[r].first_moments) << "rank " << r;
      EXPECT_EQ(ranks[r].second_moments, start[r].second_moments) << "rank " << r;
      EXPECT_EQ(ranks[r].state.updates, 0);
      EXPECT_EQ(ranks[r].state.skipped, 2);
      EXPECT_EQ(ranks[r].state.skipped_in_a_row, 2);
    }
  }
}

// The comparisons above have to see what they are there for.
TEST(LayoutMutations, LocalDivisorIsNoticed) {
  const Trace serial = train({}, 1)[0];
  const Mutation local{.divisor = [](int64_t, int64_t mine) { return 4 * mine; }};
  const Trace got = train({.data = 4}, 1, local)[0];
  EXPECT_GT(relative(got.losses[0], serial.losses[0]), 1e-6);
  EXPECT_GT(worst_distance(got.gradients[0], serial.gradients[0]), 1e-2);
}

TEST(LayoutMutations, MergedDocumentsAreNoticed) {
  const Trace serial = train({}, 1)[0];
  const Mutation merge{.edit = [](HostBatch& batch, int) {
    batch.cu_seqlens = {0, static_cast<int32_t>(batch.size())};
    batch.max_seqlen = static_cast<int32_t>(batch.size());
  }};
  const Trace got = train({.data = 2}, 1, merge)[0];
  EXPECT_GT(worst_distance(got.gradients[0], serial.gradients[0]), 1e-3);
}

TEST(LayoutMutations, DropoutKeyedByTheRankIsNoticed) {
  const Trace serial = train({.dropout = 0.1}, 1)[0];
  const Mutation local_ids{.edit = [](HostBatch& batch, int) {
    for (size_t t = 0; t < batch.token_ids.size(); ++t)
      batch.token_ids[t] = static_cast<int64_t>(t);
  }};
  const Trace got = train({.data = 2, .dropout = 0.1}, 1, local_ids)[0];
  EXPECT_GT(relative(got.losses[0], serial.losses[0]), 1e-6);
  EXPECT_GT(worst_distance(got.gradients[0], serial.gradients[0]), 1e-3);
}

// A step of this model has one bucket and the sum of its loss.
TEST(LayoutMutations, AMissingWaitIsNoticed) {
  const Layout layout{.data = 2};
  const std::vector<Trace> plain = train(layout, 1, {.late = LateOptions{.seed = 3}});
  for (const int64_t call : {1, 2}) {
    const Mutation forget{.late = LateOptions{.seed = 3, .forget = call}};
    EXPECT_FALSE(train(layout, 1, forget) == plain) << "without the wait of call " << call;
  }
}

TEST(LayoutMutations, GradientsThatAreNotReducedAreNoticed) {
  const Trace serial = train({}, 1)[0];
  const Golden golden("internlm2");
  const Fixture fixture;
  const auto alone = make_self_group();
  Trainee trainee(golden, *alone);
  std::vector<int64_t> rows = fixture.in_order();
  rows.resize(rows.size() / 2);
  trainee.backward_of(fixture.pack(0, rows), static_cast<double>(fixture.trained(0)));
  EXPECT_GT(worst_distance(trainee.gradients(), serial.gradients[0]), 1e-2);
}

}  // namespace
}  // namespace ink
