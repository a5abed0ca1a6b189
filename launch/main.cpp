// The inkstone binary: parses the command line, runs one verb, turns errors into one line and an
// exit code.

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "launch/cli/error_report.h"
#include "launch/cli/parse.h"

namespace {

// Results that did not reach their file or pipe are no results.
void flush_results() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw ink::Error(ink::ExitCode::kIo, "stdout",
                     fmt::format("cannot write: {}", std::strerror(errno)));
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit arrives as EFBIG and is reported
  try {
    ink::CommandLine command;
    auto code = ink::parse_command_line(argc, argv, command);
    if (!code) code = command.run();
    flush_results();
    return static_cast<int>(*code);
  } catch (...) {
    return static_cast<int>(ink::report_current_exception());
  }
}
