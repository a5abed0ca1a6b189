// Command line -> CommandLine: the verbs, common flags, help, version, nearest names for what is
// not known.
#pragma once

#include <optional>

#include "launch/verbs/verb.h"

namespace ink {

// A code when there is nothing left to run (help, version). Error(kConfig) for what cannot be
// parsed.
[[nodiscard]] std::optional<ExitCode> parse_command_line(int argc, char** argv,
                                                         CommandLine& command);

// The text of --version: build options, libraries, instruction set.
[[nodiscard]] std::string version_text();

}  // namespace ink
