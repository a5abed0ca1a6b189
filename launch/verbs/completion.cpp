// inkstone completion bash|zsh|fish: the script that completes verbs and flags.

#include "launch/cli/completion.h"

#include <cstdio>

#include "launch/verbs/value_flags.h"
#include "launch/verbs/verb.h"

namespace ink {

void add_completion(CLI::App& app, CommandLine& command) {
  CLI::App* verb = app.add_subcommand(
      "completion", "a script that completes verbs and flags: source <(inkstone completion bash)");
  auto shell = std::make_shared<std::string>();
  verb->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(one_of({"bash", "zsh", "fish"}));
  verb->callback([&app, &command, shell] {
    // The declarations live until the command line is parsed.
    command.run = [script = completion_script(app, *shell)] {
      fmt::print("{}", script);
      return ExitCode::kDone;
    };
  });
}

}  // namespace ink
