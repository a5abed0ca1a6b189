// Data-parallel training on cards against one rank: gradients reduced over NCCL while backward
// runs, updates on every card. Ranks are threads with a card each. On the host implementation also
// with streams that work as late as they may, so that a missing wait shows.
#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/group_ranks.h"
#include "tests/support/trainee.h"

#ifdef INKSTONE_CUDA_ON_CPU_TEST
#include "tests/support/cuda_on_cpu/runtime_api.h"
#endif

namespace ink {
namespace {

constexpr int64_t kSteps = 2;

struct Layout {
  Device device = Device::kCuda;
  int ranks = 1;
  int64_t accumulation = 1;
  bool overlap = true, late = false;
  bool bf16 = false;  // everything, gradients too
};

std::string name_of(const Layout& l) {
  return fmt::format("dp{}_acc{}{}{}{}", l.ranks, l.accumulation, l.overlap ? "" : "_blocking",
                     l.late ? "_late" : "", l.bf16 ? "_bf16" : "");
}

struct Trace {
  std::vector<double> losses, norms;
  NamedValues first_gradients, parameters, first_moments, second_moments;

  friend bool operator==(const Trace&, const Trace&) = default;
};

Trace run_rank(const Layout& layout, ProcessGroup& group, Trainee& trainee) {
  const Fixture fixture;
  const int64_t parts = layout.ranks * layout.accumulation, rows = Fixture::kRows / parts;
  Trace trace;
  for (int64_t step = 0; step < kSteps; ++step) {
    std::vector<HostBatch> mine;
    for (int64_t a = 0; a < layout.accumulation; ++a) {
      std::vector<int64_t> taken;
      for (int64_t i = 0; i < rows; ++i)
        taken.push_back((group.rank() * layout.accumulation + a) * rows + i);
      mine.push_back(fixture.pack(step, taken));
    }
    const StepResult result = trainee.step().run(mine, fixture.trained(step), step + 1);
    trace.losses.push_back(result.loss);
    trace.norms.push_back(result.state.grad_norm);
    if (step == 0) trace.first_gradients = trainee.gradients();
  }
  trace.parameters = trainee.parameters();
  trace.first_moments = trainee.first_moments();
  trace.second_moments = trainee.second_moments();
  return trace;
}

std::vector<Trace> train(const Layout& layout) {
  const Golden golden("internlm2");
  std::vector<Trace> traces(static_cast<size_t>(layout.ranks));
  run_group(layout.ranks, [&](ProcessGroup& host) {
    TraineeOptions options;
    options.device = layout.device;
    options.ordinal = layout.device == Device::kCuda ? host.rank() : 0;
    options.overlap = layout.overlap;
    if (layout.bf16) {
      options.compute = DType::kBF16;
      options.optim.state_dtype = options.optim.grad_dtype = StateDtype::kBf16;
    }
    Trainee trainee(golden, host, options);
    traces[static_cast<size_t>(host.rank())] = run_rank(layout, host, trainee);
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

std::string why_not(int ranks) {
  try {
    static_cast<void>(make_backend(Device::kCuda, ranks - 1));
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

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
  if (const std::string why = why_not(layout.ranks); !why.empty()) GTEST_SKIP() << why;
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
  if (const std::string why = why_not(2); !why.empty()) GTEST_SKIP() << why;
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
  if (const std::string why = why_not(2); !why.empty()) GTEST_SKIP() << why;
  EXPECT_TRUE(train({.ranks = 2, .late = true}) ==
              train({.ranks = 2, .overlap = false, .late = true}));
}

}  // namespace
}  // namespace ink
