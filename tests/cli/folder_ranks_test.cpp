// Ranks without MPI: processes that somebody starts one by one and that meet in a folder. They
// train as one process does, and what goes wrong on the way has a name.
#include <signal.h>

#include <memory>
#include <thread>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

class FolderRanks : public testing::Test {
 protected:
  void SetUp() override {
    place_.write_run(
        "train: {steps: 6, global_batch_size: 4}\n"
        "checkpoint: {every: 100000, hf: never, async: false}");
    new_meeting();
  }
  void new_meeting() {
    std::string folder = (place_ / "meeting-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    meeting_ = folder;
  }
  [[nodiscard]] static std::vector<std::string> train(const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"train", "run.yaml", "--out", "run", "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return command_of(arguments);
  }
  [[nodiscard]] std::unique_ptr<Child> start(
      int rank, int ranks, const std::vector<std::string>& command = train(),
      const std::map<std::string, std::string>& variables = {}) const {
    ChildOptions options = place_.options();
    options.variables["INKSTONE_RENDEZVOUS_DIR"] = meeting_.string();
    options.variables["INKSTONE_RANKS"] = std::to_string(ranks);
    options.variables["INKSTONE_RANK"] = std::to_string(rank);
    options.variables["INKSTONE_RENDEZVOUS_TIMEOUT"] = "60";
    for (const auto& [name, value] : variables) options.variables[name] = value;
    return std::make_unique<Child>(command, options);
  }
  [[nodiscard]] std::vector<ChildResult> run_all(int ranks) const {
    std::vector<std::unique_ptr<Child>> children;
    for (int rank = 0; rank < ranks; ++rank) children.push_back(start(rank, ranks));
    std::vector<ChildResult> results;
    for (const auto& child : children) results.push_back(child->wait());
    return results;
  }
  void wait_for_seat(int rank) const {
    const Clock::time_point end = Clock::now() + std::chrono::seconds(60);
    const fs::path seat = meeting_ / ("rank-" + std::to_string(rank));
    while (slurp(seat).empty() && Clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_FALSE(slurp(seat).empty());
  }
  [[nodiscard]] static std::string process_text(int rank, pid_t process) {
    return "rank " + std::to_string(rank) + " (process " + std::to_string(process) + " on ";
  }

  Workplace place_;
  fs::path meeting_;
};

TEST_F(FolderRanks, TrainLikeOneProcess) {
  expect_done(place_.run({"train", "run.yaml", "--out", "alone"}));
  const StepColumns want = step_columns(place_ / "alone");
  ASSERT_EQ(want.size(), 6u);
  for (const int ranks : {2, 4}) {
    new_meeting();
    for (const ChildResult& result : run_all(ranks)) expect_done(result);
    const StepColumns got = step_columns(place_ / "run");
    ASSERT_EQ(got.size(), want.size()) << ranks;
    for (const auto& [step, row] : want) {
      for (const char* name : {"tokens", "trained_tokens", "lr"})
        EXPECT_EQ(got.at(step)[name], row[name]) << ranks << " ranks, step " << step << " " << name;
      for (const char* name : {"loss", "grad_norm"})
        EXPECT_NEAR(got.at(step)[name].get<double>(), row[name].get<double>(),
                    1e-5 * row[name].get<double>())
            << ranks << " ranks, step " << step << " " << name;
    }
    expect_done(place_.run({"inspect", "run", "--verify"}));
    fs::remove_all(place_ / "run");
  }
}

TEST_F(FolderRanks, RankThatDoesNotComeIsNamed) {
  const std::map<std::string, std::string> brief = {{"INKSTONE_RENDEZVOUS_TIMEOUT", "1"}};
  const auto first = start(0, 4, train(), brief), third = start(2, 4, train(), brief);
  for (const auto* child : {&first, &third})
    expect_error((*child)->wait(), 6, {"expected 4 ranks", "none as rank 1, 3"});
  EXPECT_FALSE(fs::exists(place_ / "run"));
}

// Whoever comes after the others gave up is told at once, and so is the next job.
TEST_F(FolderRanks, FolderOfAJobThatIsOverIsRefused) {
  const auto early = start(0, 2, train(), {{"INKSTONE_RENDEZVOUS_TIMEOUT", "1"}});
  const pid_t gone = early->pid();
  EXPECT_EQ(early->wait().code, 6);
  expect_error(start(1, 2)->wait(), 2, {"one that is over", process_text(0, gone), "has ended"});
  expect_error(start(0, 2)->wait(), 2,
               {"expected one process as rank 0", process_text(0, gone), "has ended"});

  new_meeting();
  for (const ChildResult& result : run_all(2)) expect_done(result);
  for (const ChildResult& result : run_all(2))
    expect_error(result, 2, {"expected an unused folder"});
}

// The second process leaves; the job of the first goes on.
TEST_F(FolderRanks, RankThatWasStartedTwiceIsRefused) {
  const auto first = start(0, 2);
  wait_for_seat(0);
  expect_error(
      start(0, 2)->wait(), 2,
      {"expected one process as rank 0, got a second one", process_text(0, first->pid()), "runs"});
  const auto second = start(1, 2);
  expect_done(second->wait());
  expect_done(first->wait());
  EXPECT_EQ(step_columns(place_ / "run").size(), 6u);
}

TEST_F(FolderRanks, KilledRankIsNamed) {
  const std::vector<std::string> endless =
      train({"train.steps=100000", "faults.step_delay_ms=50", "faults.step_delay_rank=1"});
  const auto first = start(0, 2, endless), second = start(1, 2, endless);
  ASSERT_TRUE(wait_for_step(*first, place_ / "run", 2));
  const Clock::time_point killed = Clock::now();
  second->signal(SIGKILL);
  EXPECT_EQ(second->wait().code, 137);
  expect_error(first->wait(), 6,
               {"world: rank 0 of 2 waited ", process_text(1, second->pid()), "has ended"});
  EXPECT_LT(Clock::now() - killed, std::chrono::seconds(15));
  EXPECT_TRUE(fs::exists(place_ / "run/flight/rank-0.jsonl"));
}

TEST_F(FolderRanks, TerminatedRankStopsAllWithASave) {
  const std::vector<std::string> endless = train({"train.steps=100000"});
  const auto first = start(0, 2, endless), second = start(1, 2, endless);
  ASSERT_TRUE(wait_for_step(*first, place_ / "run", 2));
  second->signal(SIGTERM);
  EXPECT_EQ(first->wait().code, 75);
  EXPECT_EQ(second->wait().code, 75);
  expect_done(place_.run({"inspect", "run", "--verify"}));
}

// All leave with one code, and one of them says why.
TEST_F(FolderRanks, ConfigurationThatDiffersIsNamed) {
  const auto first = start(0, 2), second = start(1, 2, train({"optim.lr=0.5"}));
  const ChildResult other = first->wait();
  EXPECT_EQ(other.code, 2);
  EXPECT_EQ(other.err, "");
  expect_error(second->wait(), 2,
               {"rank 1: configuration: expected that of rank 0, optim.lr: 0.001", "0.5"});
}

TEST_F(FolderRanks, VariablesAreChecked) {
  const auto with = [&](const std::string& name, const std::string& value) {
    return start(0, 2, train(), {{name, value}})->wait();
  };
  expect_error(with("INKSTONE_RANKS", "0"), 2,
               {"INKSTONE_RANKS: expected a whole number of 1 or more", "got '0'"});
  expect_error(with("INKSTONE_RANK", "one"), 2, {"INKSTONE_RANK: expected", "got 'one'"});
  expect_error(with("INKSTONE_RANK", "2"), 2, {"expected a rank below INKSTONE_RANKS=2, got 2"});
  expect_error(with("INKSTONE_RENDEZVOUS_TIMEOUT", "0"), 2, {"INKSTONE_RENDEZVOUS_TIMEOUT"});
  fs::permissions(meeting_, fs::perms::others_read, fs::perm_options::add);
  expect_error(start(0, 2)->wait(), 2, {"closed to others, got mode 704"});
}

}  // namespace
}  // namespace ink
