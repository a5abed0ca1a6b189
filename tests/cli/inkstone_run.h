// The program under test, a run small enough for seconds, and what is expected of errors.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/child.h"
#include "tests/io/temporary_folder.h"

namespace ink {

// A folder to work in; the program runs there on one thread, its caches inside.
class Workplace {
 public:
  [[nodiscard]] std::filesystem::path path() const { return folder_.path(); }
  std::filesystem::path operator/(std::string_view name) const { return folder_ / name; }
  std::filesystem::path write(std::string_view name, std::string_view text) const {
    return folder_.write(name, text);
  }

  [[nodiscard]] ChildOptions options() const;
  [[nodiscard]] ChildResult run(const std::vector<std::string>& arguments) const;
  [[nodiscard]] ChildResult run(const std::vector<std::string>& arguments,
                                const ChildOptions& options) const;
  // Under the launcher, on this machine.
  [[nodiscard]] ChildResult run_ranks(int ranks, const std::vector<std::string>& arguments) const;

  // Writes run.yaml, a training of random tokens on a tiny model, with lines added at its end.
  void write_run(const std::string& more = {}) const;

 private:
  TemporaryFolder folder_;
};

std::vector<std::string> command_of(const std::vector<std::string>& arguments);
std::vector<std::string> launcher_of(int ranks, const std::vector<std::string>& arguments);

// One `error[code]: ...` line with every one of `words`, at most one `hint:` line, nothing on
// stdout.
void expect_error(const ChildResult& result, int code, const std::vector<std::string>& words = {});
void expect_done(const ChildResult& result);
// Under the launcher, which adds lines of its own: ours is there once, from one rank.
void expect_rank_error(const ChildResult& result, int code, const std::vector<std::string>& words);

// The process of a rank that the launcher started on this machine.
pid_t process_of_rank(const Child& launcher, int rank);

// Every regular file below `root`, by relative name.
std::map<std::string, std::string> files_below(const std::filesystem::path& root);

// Rows of metrics.jsonl of one event, as they were written.
std::vector<nlohmann::json> event_rows(const std::filesystem::path& run_directory,
                                       const std::string& event);
std::vector<nlohmann::json> step_rows(const std::filesystem::path& run_directory);

// The columns of the `step` rows that runs must agree on, by step; of equal steps the last row.
using StepColumns = std::map<int64_t, nlohmann::json>;
StepColumns step_columns(const std::filesystem::path& run_directory);
// Waits until metrics.jsonl has the step; false when the child ended or a minute passed.
bool wait_for_step(Child& child, const std::filesystem::path& run_directory, int64_t step);

}  // namespace ink
