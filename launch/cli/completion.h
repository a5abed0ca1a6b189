// Scripts that complete verbs and flags in bash, zsh and fish, made from the same declarations as
// the help.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace ink {

// shell: bash, zsh or fish. app: the whole command line with every verb declared.
[[nodiscard]] std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace ink
