// The inkstone binary: parses the command line, runs one verb, turns errors into one line and an
// exit code.

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <new>

#include "launch/cli/error_report.h"
#include "launch/cli/parse.h"

int main(int argc, char** argv) {
  try {
    ink::CommandLine command;
    if (const auto code = ink::parse_command_line(argc, argv, command))
      return static_cast<int>(*code);
    return static_cast<int>(command.run());
  } catch (...) {
    return static_cast<int>(ink::report_current_exception());
  }
}
