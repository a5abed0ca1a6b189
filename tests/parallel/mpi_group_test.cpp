// Run by mpirun: the cases of every transport over MPI, and ten golden steps on all ranks.
#include <gtest/gtest.h>

#include <cmath>

#include "launch/rendezvous/rendezvous.h"
#include "tests/parallel/group_cases.h"
#include "tests/support/group_ranks.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

class OnGroup : public testing::Test {
 public:
  OnGroup(ProcessGroup& group, void (*run)(Runtime&, ProcessGroup&)) : group_(group), run_(run) {}
  void TestBody() override {
    Runtime runtime;
    run_(runtime, group_);
    group_.barrier();
  }

 private:
  ProcessGroup& group_;
  void (*run_)(Runtime&, ProcessGroup&);
};

// The golden run with the rows of every batch divided over the ranks.
void ten_golden_steps(Runtime&, ProcessGroup& group) {
  set_thread_count(1);
  const Golden golden("internlm2");
  const Fixture fixture;
  Trainee trainee(golden, group);
  const nlohmann::json& expected = golden.expected();
  for (int64_t step = 0; step < fixture.steps(); ++step) {
    std::vector<int64_t> mine;
    for (int64_t row = group.rank(); row < fixture.rows(); row += group.size()) mine.push_back(row);
    const HostBatch batch = fixture.pack(step, mine);
    const StepResult result = trainee.step().run({&batch, 1}, fixture.trained(step), step + 1);
    const auto t = static_cast<size_t>(step);
    const double loss = expected["loss"][t], norm = expected["grad_norm_before_clip"][t];
    EXPECT_NEAR(result.loss, loss, 1e-5 * loss) << "step " << step + 1;
    EXPECT_NEAR(result.state.grad_norm, norm, 1e-5 * norm) << "step " << step + 1;
    if (step == 0) expect_close(trainee.gradients(), golden.tensors("grad."), 1e-5, "gradient");
  }
  expect_close(trainee.parameters(), golden.tensors("after10.param."), 1e-5, "parameter");
  expect_close(trainee.second_moments(), golden.tensors("after10.exp_avg_sq."), 1e-5, "v");
}

void register_case(ProcessGroup& world, const char* name, void (*run)(Runtime&, ProcessGroup&)) {
  testing::RegisterTest("Mpi", name, nullptr, nullptr, __FILE__, __LINE__,
                        [&world, run]() -> testing::Test* { return new OnGroup(world, run); });
}

int run_tests(Launch& launch) {
  for (const GroupCase& group_case : group_cases())
    register_case(*launch.world, group_case.name, group_case.run);
  register_case(*launch.world, "TenGoldenSteps", ten_golden_steps);
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace ink

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  ink::Launch launch = ink::join_launch({std::chrono::seconds(60)});
  if (launch.size < 2) {
    fmt::print(stderr, "mpi_group_test: expected at least two ranks, got {}\n", launch.size);
    return 2;
  }
  const auto mine = ink::run_tests(launch) == 0 ? ink::ExitCode::kDone : ink::ExitCode::kInternal;
  const ink::ExitCode code = ink::agree(launch, mine).code;
  ink::leave_launch(launch, code, true);
  return static_cast<int>(code);
}
