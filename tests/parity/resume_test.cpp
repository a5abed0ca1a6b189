// A run that is saved, torn down and loaded again goes on bit for bit, its random numbers included:
// dropout, and the stochastic rounding of bf16 moments.
#include <gtest/gtest.h>

#include "optim/checkpoint/find.h"
#include "optim/checkpoint/load.h"
#include "optim/checkpoint/save.h"
#include "parallel/comm/self_group.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

constexpr int64_t kSteps = 6, kStop = 3;

// What of the saved state is forgotten when the run goes on.
enum class Forget { kNothing, kStep, kClock };

// Of moments and of gradients.
struct Types {
  StateDtype moments = StateDtype::kF32, gradients = StateDtype::kF32;
};

class Resume : public testing::TestWithParam<Types> {
 protected:
  [[nodiscard]] static TraineeOptions options() {
    TraineeOptions options;
    options.dropout = 0.1;
    options.optim.state_dtype = GetParam().moments;
    options.optim.grad_dtype = GetParam().gradients;
    if (GetParam().moments == StateDtype::kBf16) options.compute = DType::kBF16;
    return options;
  }
  // Steps `first` to `last`, 1-based; the counter that keys dropout is `shift` behind.
  void run(Trainee& trainee, int64_t first, int64_t last, int64_t shift = 0) {
    for (int64_t step = first; step <= last; ++step) {
      const int64_t at = (step - 1) % fixture_.steps();
      const HostBatch batch = fixture_.all(at);
      losses_.push_back(trainee.step().run({&batch, 1}, fixture_.trained(at), step - shift).loss);
    }
  }
  struct End {
    std::vector<double> losses;
    NamedValues parameters, first_moments, second_moments;
    friend bool operator==(const End&, const End&) = default;
  };
  End end_of(Trainee& trainee) {
    return {std::exchange(losses_, {}), trainee.parameters(), trainee.first_moments(),
            trainee.second_moments()};
  }
  End uninterrupted() {
    Trainee trainee(golden_, *alone_, options());
    run(trainee, 1, kSteps);
    return end_of(trainee);
  }
  End resumed(Forget forget) {
    const TemporaryFolder folder;
    {
      Trainee trainee(golden_, *alone_, options());
      run(trainee, 1, kStop);
      const auto tensors = state_tensors(trainee.table(), trainee.optimizer());
      save_checkpoint(
          take_snapshot(kStop, {{"optimizer", to_json(trainee.optimizer().state())}}, tensors),
          {.directory = folder.path(), .run_id = "run"});
    }
    Trainee trainee(golden_, *alone_, options());
    const OpenedCheckpoint opened = open_latest(folder.path());
    load_state(opened.path, opened.manifest, state_tensors(trainee.table(), trainee.optimizer()));
    if (forget != Forget::kClock)
      trainee.optimizer().set_state(
          step_state_from_json(opened.manifest.trainer["optimizer"], "manifest.json"));
    run(trainee, kStop + 1, kSteps, forget == Forget::kStep ? kStop : 0);
    return end_of(trainee);
  }

 private:
  Golden golden_{"internlm2"};
  Fixture fixture_;
  std::unique_ptr<ProcessGroup> alone_ = make_self_group();
  std::vector<double> losses_;
};

TEST_P(Resume, IsExact) { EXPECT_TRUE(resumed(Forget::kNothing) == uninterrupted()); }

// The comparison above sees counters that are not restored.
TEST_P(Resume, CountersThatAreNotRestoredAreNoticed) {
  const End whole = uninterrupted();
  const End other_masks = resumed(Forget::kStep);
  EXPECT_NE(other_masks.losses[kStop], whole.losses[kStop]) << "dropout is not keyed by the step";
  EXPECT_NE(resumed(Forget::kClock).parameters, whole.parameters);
}

INSTANTIATE_TEST_SUITE_P(
    States, Resume,
    testing::Values(Types{}, Types{.moments = StateDtype::kBf16},
                    Types{.moments = StateDtype::kBf16, .gradients = StateDtype::kBf16}),
    [](const auto& info) {
      const Types& types = info.param;
      const bool narrow = types.gradients == StateDtype::kBf16;
      return types.moments == StateDtype::kF32 ? "f32" : narrow ? "bf16_gradients" : "bf16";
    });

}  // namespace
}  // namespace ink
