// kill -9 at random moments around saves: the newest save is whole and the run goes on from it bit
// for bit. Five rounds by default; INKSTONE_KILL_ROUNDS asks for more (tests/cli/kill_loop.sh).

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr int kSteps = 40;

int rounds() {
  const char* wanted = std::getenv("INKSTONE_KILL_ROUNDS");
  return wanted == nullptr ? 5 : std::max(1, std::atoi(wanted));
}

class Kill : public testing::Test {
 protected:
  void SetUp() override {
    place_.write_run("train: {steps: " + std::to_string(kSteps) +
                     ", global_batch_size: 2}\n"
                     "checkpoint: {every: 1, keep: 2, hf: never}");
  }
  static std::vector<std::string> train(const std::string& out,
                                        const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"train", "run.yaml", "--out", out, "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // Kills every process of the job, the launcher first, so that nobody is warned.
  static void kill_all(Child& child, int ranks) {
    std::vector<pid_t> processes = {child.pid()};
    for (int rank = 0; ranks > 1 && rank < ranks; ++rank)
      processes.push_back(process_of_rank(child, rank));
    for (const pid_t process : processes) kill(process, SIGKILL);
  }
  ChildResult finish(const std::string& out, int ranks) const {
    const std::vector<std::string> words = train(out, {"--resume", "latest"});
    return ranks > 1 ? place_.run_ranks(ranks, words) : place_.run(words);
  }
  // One job, killed within a save or so of a random step; then everything is looked at.
  void one_round(const std::string& out, const std::string& whole, int ranks, bool async) {
    const std::vector<std::string> words = train(
        out,
        {std::string("checkpoint.async=") + (async ? "true" : "false"), "faults.step_delay_ms=5"});
    Child child(ranks > 1 ? launcher_of(ranks, words) : command_of(words), place_.options());
    ASSERT_TRUE(wait_for_step(child, place_ / out, 2 + static_cast<int64_t>(random_() % 30)));
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 20'000));
    kill_all(child, ranks);
    EXPECT_EQ(child.wait().code, 137);
    const ChildResult verdict = place_.run({"inspect", out, "--verify"});
    expect_done(verdict);
    const ChildResult resumed = finish(out, ranks);
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(step_columns(place_ / out), step_columns(place_ / whole));
    const std::string last = "step-" + std::to_string(kSteps);
    EXPECT_EQ(files_below(place_ / out / last / "state"),
              files_below(place_ / whole / last / "state"));
    for (const auto& [name, bytes] : files_below(place_ / out))
      EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
    fs::remove_all(place_ / out);
  }

  Workplace place_;
  std::mt19937 random_{7};
};

TEST_F(Kill, AroundSavesOfOneProcess) {
  expect_done(place_.run(train("whole")));
  for (int round = 0; round < rounds(); ++round) {
    SCOPED_TRACE(round);
    one_round("killed", "whole", 1, round % 2 == 0);
    if (HasFatalFailure()) return;
  }
}

#ifdef INKSTONE_MPI
TEST_F(Kill, AroundSavesOfTwoRanks) {
  ASSERT_EQ(place_.run_ranks(2, train("whole")).code, 0);
  for (int round = 0; round < std::max(1, rounds() / 5); ++round) {
    SCOPED_TRACE(round);
    one_round("killed", "whole", 2, round % 2 == 0);
    if (HasFatalFailure()) return;
  }
}
#endif

}  // namespace
}  // namespace ink
