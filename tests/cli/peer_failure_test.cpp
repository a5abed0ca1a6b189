// A rank that dies, stops or is slow, and ranks that were started differently: the others say which
// one, and nobody is left behind.

#include <signal.h>

#include <sstream>
#include <thread>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

class PeerFailure : public testing::Test {
 protected:
  void SetUp() override {
    place_.write_run(
        "train: {steps: 100000, global_batch_size: 4}\n"
        "checkpoint: {every: 100000, hf: never, async: false}");
  }
  // Two ranks; rank 1 sleeps in every step, so that rank 0 is found waiting for it.
  [[nodiscard]] std::vector<std::string> slow_rank(const std::string& milliseconds,
                                                   const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"train",
                                          "run.yaml",
                                          "--out",
                                          "run",
                                          "--quiet",
                                          "faults.step_delay_ms=" + milliseconds,
                                          "faults.step_delay_rank=1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return launcher_of(2, arguments);
  }
  // The last line of a rank's flight record.
  [[nodiscard]] json last_call(int rank) const {
    const std::string text =
        slurp(place_ / "run/flight" / ("rank-" + std::to_string(rank) + ".jsonl"));
    std::istringstream lines(text);
    json last;
    for (std::string line; std::getline(lines, line);) last = json::parse(line);
    return last;
  }
  // A process that nobody has waited for yet still has its number, and runs no more.
  static bool runs(pid_t process) {
    const std::string line = slurp("/proc/" + std::to_string(process) + "/stat");
    const size_t name_end = line.rfind(')');
    return name_end != std::string::npos && line.substr(name_end + 2, 1) != "Z";
  }
  static void expect_gone(const std::vector<pid_t>& processes) {
    for (const pid_t process : processes) {
      const Clock::time_point end = Clock::now() + std::chrono::seconds(5);
      while (runs(process) && Clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_FALSE(runs(process)) << process;
    }
  }

  Workplace place_;
};

TEST_F(PeerFailure, KilledRankIsNamed) {
  Child launcher(slow_rank("300", {}), place_.options());
  ASSERT_TRUE(wait_for_step(launcher, place_ / "run", 2));
  const std::vector<pid_t> ranks = {process_of_rank(launcher, 0), process_of_rank(launcher, 1)};
  const Clock::time_point start = Clock::now();
  kill(ranks[1], SIGKILL);
  const ChildResult result = launcher.wait();
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(15));
  // The launcher's own code is that of the killed process, the line is ours.
  EXPECT_TRUE(result.code == 137 || result.code == 6) << result.code;
  const size_t at = result.err.find("error[6]: world: rank 0 of 2 waited ");
  ASSERT_NE(at, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("error[", at + 1), std::string::npos) << result.err;
  const std::vector<std::string> words = {"s in all_reduce (call ", " bytes)", "has ended",
                                          "rank 1 (process " + std::to_string(ranks[1])};
  for (const std::string& word : words)
    EXPECT_NE(result.err.find(word, at), std::string::npos) << word << " in " << result.err;
  EXPECT_EQ(last_call(0).at("op"), "all_reduce");
  EXPECT_LT(last_call(0).at("completed_at").get<double>(), 0);
  expect_gone(ranks);
}

TEST_F(PeerFailure, StoppedRankEndsTheRunAtTheDeadline) {
  Child launcher(slow_rank("10", {"parallel.timeout=4"}), place_.options());
  ASSERT_TRUE(wait_for_step(launcher, place_ / "run", 2));
  const std::vector<pid_t> ranks = {process_of_rank(launcher, 0), process_of_rank(launcher, 1)};
  const Clock::time_point start = Clock::now();
  kill(ranks[1], SIGSTOP);
  const ChildResult result = launcher.wait();
  EXPECT_GT(Clock::now() - start, std::chrono::seconds(3));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(4 + 15));
  expect_rank_error(result, 6,
                    {"rank 0 of 2 waited 4.", "s in all_reduce (call ",
                     "rank 1 (process " + std::to_string(ranks[1]), "is stopped"});
  // Both ranks leave a record: the launcher wakes the stopped one before it ends it.
  const json waiting = last_call(0), stopped = last_call(1);
  EXPECT_EQ(waiting.at("group"), "world");
  EXPECT_LT(waiting.at("completed_at").get<double>(), 0);
  EXPECT_GT(waiting.at("bytes").get<int64_t>(), 0);
  EXPECT_FALSE(stopped.is_null());
  EXPECT_LE(stopped.at("sequence").get<int64_t>(), waiting.at("sequence").get<int64_t>());
  expect_gone(ranks);
}

TEST_F(PeerFailure, SlowRankIsOnlyWarnedAbout) {
  const ChildResult result =
      run_child(slow_rank("1500", {"train.steps=3", "parallel.timeout=8"}), place_.options());
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(step_columns(place_ / "run").size(), 3u);
  const size_t at = result.err.find("warning[slow]: rank 0 of 2 waited ");
  ASSERT_NE(at, std::string::npos) << result.err;
  EXPECT_NE(result.err.find("rank 1 (process ", at), std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("warning[slow]", at + 1), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(place_ / "run/flight"));
}

// One preempted rank is everybody's stop: its flag travels with the vote.
TEST_F(PeerFailure, TerminatedRankStopsAllWithASave) {
  Child launcher(slow_rank("20", {}), place_.options());
  ASSERT_TRUE(wait_for_step(launcher, place_ / "run", 3));
  kill(process_of_rank(launcher, 1), SIGTERM);
  const ChildResult result = launcher.wait();
  EXPECT_EQ(result.code, 75) << result.err;
  const size_t steps = step_columns(place_ / "run").size();
  EXPECT_TRUE(fs::exists(place_ / "run" / ("step-" + std::to_string(steps))));
  expect_done(place_.run({"inspect", "run", "--verify"}));
}

// The launcher ends its ranks about two seconds after SIGTERM; what is there then is whole.
TEST_F(PeerFailure, TerminatedLauncherLeavesWholeCheckpoints) {
  Child launcher(slow_rank("5", {"checkpoint.every=1"}), place_.options());
  ASSERT_TRUE(wait_for_step(launcher, place_ / "run", 5));
  const std::vector<pid_t> ranks = {process_of_rank(launcher, 0), process_of_rank(launcher, 1)};
  launcher.signal(SIGTERM);
  EXPECT_NE(launcher.wait().code, 0);
  expect_gone(ranks);
  expect_done(place_.run({"inspect", "run", "--verify"}));
  const auto reached = static_cast<int64_t>(step_columns(place_ / "run").size());
  expect_done(place_.run({"train", "run.yaml", "--out", "run", "--resume", "latest", "--max-steps",
                          std::to_string(reached + 2)}));
}

// One rank with another configuration, data, or variable; each group of words is one program.
class Handshake : public PeerFailure {
 protected:
  [[nodiscard]] ChildResult run_pair(const std::vector<std::string>& first,
                                     const std::vector<std::string>& second,
                                     const ChildOptions& options) const {
    std::vector<std::string> command = launcher_of(1, first);
    command.insert(command.end(), {":", "-np", "1"});
    for (const std::string& word : second) command.push_back(word);
    return run_child(command, options);
  }
  [[nodiscard]] static std::vector<std::string> train(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"train", "run.yaml", "--out", "run"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_F(Handshake, ConfigurationThatDiffersIsNamed) {
  const ChildResult result =
      run_pair(train({}), command_of(train({"optim.lr=0.5"})), place_.options());
  expect_rank_error(
      result, 2,
      {"rank 1: configuration: expected that of rank 0, optim.lr: 0.001", "got optim.lr: 0.5"});
  EXPECT_FALSE(fs::exists(place_ / "run"));
}

TEST_F(Handshake, EnvironmentThatDiffersIsNamed) {
  std::vector<std::string> second = command_of(train({}));
  second.insert(second.begin(), {"env", "NCCL_ALGO=Ring"});
  const ChildResult result = run_pair(train({}), second, place_.options());
  expect_rank_error(result, 2,
                    {"rank 1: environment NCCL_ALGO: expected that of rank 0, unset, got Ring"});
}

TEST_F(Handshake, ProgramThatDiffersIsNamed) {
  // Bytes behind the last section change nothing but the hash.
  fs::copy_file(INKSTONE_BINARY, place_ / "other");
  place_.write("other", slurp(place_ / "other") + "another build");
  fs::permissions(place_ / "other", fs::perms::owner_all);
  std::vector<std::string> second = command_of(train({}));
  second[0] = (place_ / "other").string();
  expect_rank_error(run_pair(train({}), second, place_.options()), 2,
                    {"rank 1: program: expected that of rank 0, SHA-256 "});
}

TEST_F(Handshake, DataThatDifferIsNamed) {
  // Each rank reads the file of its own folder under one name.
  for (const char* folder : {"a", "b"}) {
    std::string rows;
    for (int i = 0; i < 40; ++i)
      rows += "{\"tokens\": [1, 2, 3, 4, 5, " + std::string(folder[0] == 'a' ? "6" : "7") + "]}\n";
    place_.write(std::string(folder) + "/rows.jsonl", rows);
    fs::copy_file(place_ / "run.yaml", place_ / folder / "run.yaml");
  }
  const std::vector<std::string> words = train({"data.train=[{path: rows.jsonl}]"});
  const std::vector<std::string> program = command_of(words);
  std::vector<std::string> command = {"mpirun", "--allow-run-as-root", "--oversubscribe"};
  for (const char* folder : {"a", "b"}) {
    if (folder[0] == 'b') command.emplace_back(":");
    command.insert(command.end(), {"-np", "1", "-wdir", (place_ / folder).string()});
    command.insert(command.end(), program.begin(), program.end());
  }
  expect_rank_error(run_child(command, place_.options()), 2, {"rank 1: data: "});
}

}  // namespace
}  // namespace ink
