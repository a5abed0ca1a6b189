#include "tests/cli/child.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace ink {
namespace {

namespace fs = std::filesystem;

void redirect(const fs::path& file, int descriptor) {
  const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || dup2(fd, descriptor) < 0) _exit(126);
}

[[noreturn]] void become(std::vector<char*> argv, const ChildOptions& options,
                         const fs::path& output) {
  redirect(output / "out", STDOUT_FILENO);
  redirect(output / "err", STDERR_FILENO);
  if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) _exit(126);
  for (const auto& [name, value] : options.variables) setenv(name.c_str(), value.c_str(), 1);
  if (options.file_limit) {
    const rlimit limit{*options.file_limit, *options.file_limit};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  execvp(argv[0], argv.data());
  _exit(127);
}

}  // namespace

Child::Child(const std::vector<std::string>& arguments, const ChildOptions& options) {
  std::string folder = (fs::temp_directory_path() / "inkstone-child-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  output_ = folder;
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) become(std::move(argv), options, output_);
}

Child::~Child() {
  if (running()) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove_all(output_, ignored);
}

void Child::signal(int number) const { kill(pid_, number); }

bool Child::poll() {
  if (status_) return true;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return true;
}

bool Child::running() { return !poll(); }

ChildResult Child::wait(std::chrono::seconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!poll()) {
    if (std::chrono::steady_clock::now() > end) kill(pid_, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return {.code = *status_, .out = slurp(output_ / "out"), .err = slurp(output_ / "err")};
}

ChildResult run_child(const std::vector<std::string>& arguments, const ChildOptions& options) {
  return Child(arguments, options).wait();
}

std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace ink
