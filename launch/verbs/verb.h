// The command line: one file per verb, each adding its sub-command.
//
// A verb declares its flags on a CLI11 sub-command and hands over what to do. Results go to stdout,
// everything else to stderr. A verb throws ink::Error for whatever a user can mend; main prints it
// as one line and leaves with its code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "engine/core/error.h"

namespace ink {

struct CommandLine {
  bool quiet = false, no_color = false;
  std::string text;               // the whole command, for logs
  std::function<ExitCode()> run;  // set by the verb that was named
};

void add_train(CLI::App& app, CommandLine& command);
void add_data(CLI::App& app, CommandLine& command);
void add_generate(CLI::App& app, CommandLine& command);
void add_export(CLI::App& app, CommandLine& command);
void add_inspect(CLI::App& app, CommandLine& command);
void add_config(CLI::App& app, CommandLine& command);
void add_doctor(CLI::App& app, CommandLine& command);
void add_completion(CLI::App& app, CommandLine& command);

}  // namespace ink
