#include "tests/cli/inkstone_run.h"

#include <sstream>
#include <stdexcept>
#include <thread>

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRun = R"(
model: {family: internlm2, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2,
  num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 96, max_position_embeddings: 64,
  rms_norm_eps: 1.0e-5, rope_theta: 10000, dtype: fp32}
data: {train: [{synthetic: {documents: 64, length: 40}}], max_length: 32}
optim: {lr: 1.0e-3, warmup_steps: 2}
log: {every: 1, tensorboard: false, plot: false}
)";

}  // namespace

ChildOptions Workplace::options() const {
  // The measured peak is kept for the machine, not per test: measuring takes a second.
  return {.directory = path(),
          .variables = {
              {"OMP_NUM_THREADS", "1"},
              {"XDG_CACHE_HOME", (fs::temp_directory_path() / "inkstone-cli-cache").string()}}};
}

ChildResult Workplace::run(const std::vector<std::string>& arguments) const {
  return run(arguments, options());
}

ChildResult Workplace::run(const std::vector<std::string>& arguments,
                           const ChildOptions& options) const {
  return run_child(command_of(arguments), options);
}

ChildResult Workplace::run_ranks(int ranks, const std::vector<std::string>& arguments) const {
  return run_child(launcher_of(ranks, arguments), options());
}

void Workplace::write_run(const std::string& more) const { write("run.yaml", kRun + more + "\n"); }

std::vector<std::string> command_of(const std::vector<std::string>& arguments) {
  // Children have working directories of their own.
  std::vector<std::string> command{fs::absolute(INKSTONE_BINARY).string()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

std::vector<std::string> launcher_of(int ranks, const std::vector<std::string>& arguments) {
  std::vector<std::string> command{"mpirun", "--allow-run-as-root", "--oversubscribe", "-np",
                                   std::to_string(ranks)};
  for (const std::string& word : command_of(arguments)) command.push_back(word);
  return command;
}

void expect_error(const ChildResult& result, int code, const std::vector<std::string>& words) {
  EXPECT_EQ(result.code, code) << result.err;
  EXPECT_EQ(result.out, "");
  std::istringstream lines(result.err);
  int errors = 0, hints = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string start = "error[" + std::to_string(code) + "]: ";
    if (line.starts_with(start)) {
      ++errors;
      for (const std::string& word : words)
        EXPECT_NE(result.err.find(word), std::string::npos)
            << "'" << word << "' is not in: " << result.err;
    } else if (line.starts_with("hint: ")) {
      ++hints;
    } else {
      ADD_FAILURE() << "neither error nor hint: " << line;
    }
  }
  EXPECT_EQ(errors, 1) << result.err;
  EXPECT_LE(hints, 1) << result.err;
}

void expect_done(const ChildResult& result) { EXPECT_EQ(result.code, 0) << result.err; }

void expect_rank_error(const ChildResult& result, int code, const std::vector<std::string>& words) {
  EXPECT_EQ(result.code, code) << result.err;
  const std::string start = "error[" + std::to_string(code) + "]: ";
  const size_t at = result.err.find(start);
  ASSERT_NE(at, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("error[", at + 1), std::string::npos) << result.err;
  for (const std::string& word : words)
    EXPECT_NE(result.err.find(word, at), std::string::npos) << word << " in " << result.err;
}

pid_t process_of_rank(const Child& launcher, int rank) {
  const std::string own = std::to_string(launcher.pid());
  const std::string wanted = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
  for (const auto& thread : fs::directory_iterator("/proc/" + own + "/task")) {
    std::istringstream children(slurp(thread.path() / "children"));
    for (pid_t child = 0; children >> child;) {
      const std::string variables = slurp("/proc/" + std::to_string(child) + "/environ");
      // Variables are separated by NUL.
      if (variables.find(wanted + '\0') != std::string::npos) return child;
    }
  }
  throw std::runtime_error("no process of rank " + std::to_string(rank));
}

std::map<std::string, std::string> files_below(const fs::path& root) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), root).string()] = slurp(entry.path());
  }
  return files;
}

std::vector<nlohmann::json> event_rows(const fs::path& run_directory, const std::string& event) {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(slurp(run_directory / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    // The last line may be half written while the run goes on.
    const nlohmann::json row = nlohmann::json::parse(line, nullptr, false);
    if (row.is_object() && row.value("event", "") == event) rows.push_back(row);
  }
  return rows;
}

std::vector<nlohmann::json> step_rows(const fs::path& run_directory) {
  return event_rows(run_directory, "step");
}

StepColumns step_columns(const fs::path& run_directory) {
  StepColumns columns;
  for (const nlohmann::json& row : step_rows(run_directory)) {
    for (const char* name : {"loss", "lr", "grad_norm", "tokens", "trained_tokens"})
      columns[row.at("step").get<int64_t>()][name] = row.at(name);
  }
  return columns;
}

bool wait_for_step(Child& child, const fs::path& run_directory, int64_t step) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < end && child.running()) {
    if (step_columns(run_directory).contains(step)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

}  // namespace ink
