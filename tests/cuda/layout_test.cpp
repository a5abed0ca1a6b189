// Data-parallel training on cards against one rank: gradients reduced over NCCL while backward
// runs, updates on every card. Ranks are threads with a card each. On the host implementation also
// with streams that work as late as they may, so that a missing wait shows. Micro-batches recorded
// as graphs, reduced ones too, give the bits of those that run as they come.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "launch/trainer/nan_gradient.h"
#include "tests/cuda/card.h"
#include "tests/support/compare.h"
#include "tests/support/group_ranks.h"
#include "tests/support/trainee.h"

#ifdef INKSTONE_CUDA_ON_CPU_TEST
#include "tests/support/cuda_on_cpu/runtime_api.h"
#endif

namespace ink {
namespace {

constexpr int64_t kSteps = 2;
constexpr int64_t kSmallBuckets = 16 << 10;  // many of the golden model's

struct Layout {
  Device device = Device::kCuda;
  int ranks = 1;
  int64_t accumulation = 1;
  bool overlap = true, late = false;
  bool bf16 = false;    // everything, gradients too
  bool graphs = false;  // micro-batches are recorded
  int64_t bucket_bytes = ReducerOptions{}.bucket_bytes;
  int64_t steps = kSteps;
  std::optional<int64_t> rows;  // of the global batch; all of the fixture unless set
};

std::string name_of(const Layout& l) {
  return fmt::format("dp{}_acc{}{}{}{}", l.ranks, l.accumulation, l.overlap ? "" : "_blocking",
                     l.late ? "_late" : "", l.bf16 ? "_bf16" : "");
}

struct Trace {
  std::vector<double> losses, norms;
  NamedValues first_gradients, parameters, first_moments, second_moments;
  std::vector<int64_t> reductions;  // of every step

  friend bool operator==(const Trace&, const Trace&) = default;
};
// How a rank got there.
struct Ways {
  int64_t launches = 0;  // of recordings
  std::string note;
};

int64_t reductions_so_far(const Trainee& trainee) {
  if (trainee.device_group() == nullptr) return 0;
  return std::ranges::count_if(
      trainee.device_group()->recorder().records(),
      [](const FlightRecord& record) { return std::string_view(record.op) == "all_reduce"; });
}

Trace run_rank(const Layout& layout, ProcessGroup& group, Trainee& trainee) {
  const Fixture fixture;
  const int64_t parts = layout.ranks * layout.accumulation;
  const int64_t rows = layout.rows.value_or(fixture.rows());
  Trace trace;
  for (int64_t step = 0; step < layout.steps; ++step) {
    std::vector<HostBatch> mine;
    for (int64_t a = 0; a < layout.accumulation; ++a) {
      const int64_t part = group.rank() * layout.accumulation + a;
      std::vector<int64_t> taken;
      for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; ++row)
        taken.push_back(row);
      mine.push_back(fixture.pack(step, taken));
    }
    const int64_t before = reductions_so_far(trainee);
    const StepResult result = trainee.step().run(mine, fixture.trained(step), step + 1);
    trace.reductions.push_back(reductions_so_far(trainee) - before);
    trace.losses.push_back(result.loss);
    trace.norms.push_back(result.state.grad_norm);
    if (step == 0) trace.first_gradients = trainee.gradients();
  }
  trace.parameters = trainee.parameters();
  trace.first_moments = trainee.first_moments();
  trace.second_moments = trainee.second_moments();
  return trace;
}

using Prepare = std::function<void(Trainee&)>;

std::vector<Trace> train(const Layout& layout, std::vector<Ways>* ways = nullptr,
                         const Prepare& prepare = {}) {
  const Golden golden("internlm2");
  const int64_t length = Fixture().length();
  if (ways != nullptr) ways->assign(static_cast<size_t>(layout.ranks), {});
  std::vector<Trace> traces(static_cast<size_t>(layout.ranks));
  run_group(layout.ranks, [&](ProcessGroup& host) {
    TraineeOptions options;
    options.device = layout.device;
    options.ordinal = layout.device == Device::kCuda ? host.rank() : 0;
    options.overlap = layout.overlap;
    options.graphs = layout.graphs;
    if (layout.graphs) options.max_length = length;
    options.bucket_bytes = layout.bucket_bytes;
    if (layout.bf16) {
      options.compute = DType::kBF16;
      options.optim.state_dtype = options.optim.grad_dtype = StateDtype::kBf16;
    }
    Trainee trainee(golden, host, options);
    if (prepare) prepare(trainee);
    const auto rank = static_cast<size_t>(host.rank());
    traces[rank] = run_rank(layout, host, trainee);
    if (ways != nullptr)
      (*ways)[rank] = {trainee.step().graph_launches(), trainee.step().take_note()};
  });
  return traces;
}

// The host implementation offers four cards.
class Cards {
 public:
  explicit Cards(bool late) {
#ifdef INKSTONE_CUDA_ON_CPU_TEST
    cuda_on_cpu::set_devices(4);
    cuda_on_cpu::set_streams(late ? cuda_on_cpu::Streams::kLate : cuda_on_cpu::Streams::kAtOnce);
#else
    static_cast<void>(late);
#endif
  }
  ~Cards() {
#ifdef INKSTONE_CUDA_ON_CPU_TEST
    cuda_on_cpu::set_streams(cuda_on_cpu::Streams::kAtOnce);
#endif
  }
  Cards(const Cards&) = delete;
  Cards& operator=(const Cards&) = delete;
};

void expect_parity(const Trace& got, const Trace& serial) {
  for (size_t t = 0; t < kSteps; ++t) {
    EXPECT_NEAR(got.losses[t] / serial.losses[t], 1, 1e-5) << "step " << t + 1;
    EXPECT_NEAR(got.norms[t] / serial.norms[t], 1, 1e-5) << "step " << t + 1;
  }
  expect_close(got.first_gradients, serial.first_gradients, 1e-5, "gradient of step 1");
  expect_close(got.parameters, serial.parameters, 1e-5, "parameter after the last step");
  expect_close(got.first_moments, serial.first_moments, 1e-5, "m after the last step");
  expect_close(got.second_moments, serial.second_moments, 1e-5, "v after the last step");
}

class CudaLayout : public testing::TestWithParam<Layout> {};

TEST_P(CudaLayout, EqualsOneRank) {
  const Layout& layout = GetParam();
  const Cards there(layout.late);
  if (const std::string why = why_no_card(layout.ranks); !why.empty()) GTEST_SKIP() << why;
  const std::vector<Trace> ranks = train(layout);
  for (size_t r = 1; r < ranks.size(); ++r)
    EXPECT_TRUE(ranks[r] == ranks[0]) << "rank " << r << " differs from rank 0";
  expect_parity(ranks[0], train({})[0]);
  expect_parity(ranks[0], train({.device = Device::kCpu})[0]);
}

INSTANTIATE_TEST_SUITE_P(DataParallel, CudaLayout,
                         testing::Values(Layout{.ranks = 2}, Layout{.ranks = 2, .late = true},
                                         Layout{.ranks = 2, .accumulation = 2, .overlap = false},
                                         Layout{.ranks = 4, .accumulation = 2, .late = true}),
                         [](const auto& info) { return name_of(info.param); });

// Buckets of bf16 over NCCL: every rank has the same bits, and the loss stays that of one rank
// within the noise of bf16.
TEST(CudaLayoutBf16, RanksAgreeAndFollowOneRank) {
  const Cards there(true);
  if (const std::string why = why_no_card(2); !why.empty()) GTEST_SKIP() << why;
  const std::vector<Trace> ranks =
      train({.ranks = 2, .accumulation = 2, .late = true, .bf16 = true});
  EXPECT_TRUE(ranks[1] == ranks[0]);
  const Trace serial = train({.bf16 = true})[0];
  for (size_t t = 0; t < kSteps; ++t)
    EXPECT_NEAR(ranks[0].losses[t] / serial.losses[t], 1, 2e-3) << "step " << t + 1;
  for (const auto& [name, values] : serial.first_gradients)
    EXPECT_LE(rel_frobenius(ranks[0].first_gradients.at(name), values), 0.02) << name;
}

// Reducing early or at the end: the same additions.
TEST(CudaLayoutBits, OverlapOnAndOff) {
  const Cards there(true);
  if (const std::string why = why_no_card(2); !why.empty()) GTEST_SKIP() << why;
  EXPECT_TRUE(train({.ranks = 2, .late = true}) ==
              train({.ranks = 2, .overlap = false, .late = true}));
}

// A kind of micro-batch is recorded where it is seen again and launched from then on, the reduced
// one too. A launch makes the calls of a backward that runs as it comes: ranks whose documents make
// other kinds do one while their peers do the other.
TEST(CudaLayoutBits, GraphsOnAndOff) {
  const Cards there(true);
  if (const std::string why = why_no_card(2); !why.empty()) GTEST_SKIP() << why;
  const Layout base{.ranks = 2, .late = true, .steps = 3, .rows = 2};
  Layout small = base, blocking = base, accumulated = base;
  small.bucket_bytes = accumulated.bucket_bytes = kSmallBuckets;
  blocking.overlap = false;
  accumulated.accumulation = 2;
  accumulated.rows = 4;
  accumulated.bf16 = true;
  for (Layout layout : {small, blocking, accumulated}) {
    SCOPED_TRACE(name_of(layout));
    std::vector<Ways> plain, recorded;
    const std::vector<Trace> want = train(layout, &plain);
    layout.graphs = true;
    const std::vector<Trace> got = train(layout, &recorded);
    EXPECT_TRUE(got == want);
    const int64_t reductions = want[0].reductions[0];
    EXPECT_EQ(want[0].reductions, std::vector<int64_t>(3, reductions));
    EXPECT_GT(reductions, layout.bucket_bytes == kSmallBuckets ? 5 : 0);
    for (const Ways& rank : plain) EXPECT_EQ(rank.launches, 0);
    for (const Ways& rank : recorded) {
      EXPECT_GE(rank.launches, layout.accumulation);
      EXPECT_LE(rank.launches, 2 * layout.accumulation);
      EXPECT_EQ(rank.note, "");
    }
  }
}

// What cannot be recorded runs as it comes, and is reduced as it should be; on one rank alone, as
// the others need not know.
TEST(CudaLayoutBits, ARecordingThatIsGivenUpChangesNothing) {
  const Cards there(true);
  if (const std::string why = why_no_card(2); !why.empty()) GTEST_SKIP() << why;
  Layout layout{.ranks = 2, .late = true, .bucket_bytes = kSmallBuckets, .steps = 3, .rows = 2};
  const std::vector<Trace> want = train(layout);
  layout.graphs = true;
  std::vector<Ways> ways;
  const std::vector<Trace> got = train(layout, &ways, [](Trainee& trainee) {
    if (trainee.device_group()->rank() == 1) return;
    Leaf& leaf = *trainee.table().all().front()->leaf();
    leaf.on_grad_ready = [reduce = leaf.on_grad_ready](Leaf& ready) {
      reduce(ready);
      static_cast<void>(to_values(ready.value));  // the host looks at the card
    };
  });
  EXPECT_TRUE(got == want);
  EXPECT_EQ(ways[0].launches, 0);
  EXPECT_NE(ways[0].note.find("not recorded"), std::string::npos) << ways[0].note;
  EXPECT_EQ(ways[1].launches, 2);
}

// One rank has a gradient that is not a number: all skip the step, and go on alike.
TEST(CudaLayoutSkip, AllRanksSkipWhatOneCannotUse) {
  const Cards there(true);
  if (const std::string why = why_no_card(2); !why.empty()) GTEST_SKIP() << why;
  const Golden golden("internlm2");
  const Fixture fixture;
  std::vector<StepState> states(2);
  std::vector<NamedValues> parameters(2);
  run_group(2, [&](ProcessGroup& host) {
    TraineeOptions options;
    options.device = Device::kCuda;
    options.ordinal = host.rank();
    options.compute = DType::kF16;
    Trainee trainee(golden, host, options);
    const NamedValues start = trainee.parameters();
    const std::vector<HostBatch> mine{fixture.pack(0, {host.rank()})};
    const auto step = [&](int64_t number, const std::function<void()>& spoil) {
      return trainee.step().run(mine, fixture.trained(0), number, spoil);
    };
    const auto spoil = [&] { write_nan_gradient(trainee.table()); };
    for (int64_t number = 1; number <= 2; ++number) {
      const StepResult skipped = step(number, host.rank() == 1 ? spoil : std::function<void()>{});
      EXPECT_EQ(skipped.state.skip, 1) << "rank " << host.rank();
      EXPECT_EQ(skipped.state.skipped, number);
      EXPECT_EQ(skipped.state.updates, 0);
      EXPECT_FALSE(skipped.bad_gradient.empty());
    }
    EXPECT_EQ(trainee.parameters(), start);
    const auto rank = static_cast<size_t>(host.rank());
    states[rank] = step(3, {}).state;
    parameters[rank] = trainee.parameters();
    EXPECT_NE(parameters[rank], start);
  });
  EXPECT_EQ(states[0].loss_scale, 32768) << "two overflows in a row halve it";
  EXPECT_EQ(states[0].updates, 1);
  EXPECT_EQ(states[1].loss_scale, states[0].loss_scale);
  EXPECT_EQ(states[1].grad_norm, states[0].grad_norm);
  EXPECT_EQ(states[1].updates, states[0].updates);
  EXPECT_EQ(parameters[1], parameters[0]);
}

}  // namespace
}  // namespace ink
