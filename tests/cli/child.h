// A child process with captured output: how tests drive programs as a user does.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace ink {

struct ChildOptions {
  std::filesystem::path directory = {};               // working directory
  std::map<std::string, std::string> variables = {};  // added to the environment
  std::optional<uint64_t> file_limit = {};            // bytes of a file (ulimit -f)
};

struct ChildResult {
  int code = -1;  // 128 + signal when one ended it
  std::string out, err;
};

class Child {
 public:
  // arguments[0] is the program, looked up in PATH.
  Child(const std::vector<std::string>& arguments, const ChildOptions& options);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  // Kills what is still running.
  ~Child();

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  [[nodiscard]] bool running();
  // Ends the child with SIGKILL after this time; the result is then code 137.
  ChildResult wait(std::chrono::seconds limit = std::chrono::seconds(120));

 private:
  bool poll();

  std::filesystem::path output_;  // folder of the captured streams
  pid_t pid_ = -1;
  std::optional<int> status_;
};

ChildResult run_child(const std::vector<std::string>& arguments, const ChildOptions& options = {});
std::string slurp(const std::filesystem::path& path);

}  // namespace ink
