#include "launch/cli/parse.h"

#include <algorithm>
#include <cstdio>

#include "engine/core/cpu_features.h"
#include "engine/core/nearest.h"
#include "engine/kernels/library_versions.h"

namespace ink {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done, 2 configuration or usage, 3 bad input file, 4 I/O or environment, 5 "
    "numerical abort,\n"
    "6 peer or communication failure, 7 out of memory, 75 stopped on request with the state saved.";

// CLI11 describes what is wrong; the nearest name is added where a word is simply misspelt.
Error usage_error(const CLI::ParseError& error, const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> names;
  const CLI::App* active = &app;
  for (const CLI::App* sub : app.get_subcommands()) active = sub;
  for (const CLI::App* sub : active->get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  for (const CLI::Option* option : active->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  std::string hint =
      "see inkstone " + (active == &app ? std::string() : active->get_name() + " ") + "--help";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (std::string(error.what()).find(word) == std::string::npos ||
        std::find(names.begin(), names.end(), word) != names.end())
      continue;
    if (const auto nearest = nearest_name(word, names))
      hint = fmt::format("did you mean {}?", *nearest);
  }
  std::string message = error.what();
  std::replace(message.begin(), message.end(), '\n', ' ');
  return {ExitCode::kConfig, "command line", message, hint};
}

}  // namespace

std::string version_text() {
#ifdef INKSTONE_MPI
  const char* mpi = "on";
#else
  const char* mpi = "off";
#endif
  return fmt::format("inkstone {}\nCUDA off, MPI {}, {}\ninstruction set {}", INKSTONE_VERSION, mpi,
                     library_versions(), instruction_set());
}

std::optional<ExitCode> parse_command_line(int argc, char** argv, CommandLine& command) {
  CLI::App app("Pretrains InternLM-family language models.", "inkstone");
  app.require_subcommand(1);
  app.footer(kFooter);
  app.set_version_flag("--version", version_text);
  app.add_flag("--quiet", command.quiet, "nothing on stderr but errors");
  app.add_flag("--no-color", command.no_color, "no colours, even on a terminal");
  app.fallthrough();
  for (int i = 0; i < argc; ++i) command.text += (i ? " " : "") + std::string(argv[i]);
  add_train(app, command);
  add_data(app, command);
  add_generate(app, command);
  add_export(app, command);
  add_inspect(app, command);
  add_config(app, command);
  add_doctor(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {
    app.exit(done);
    return ExitCode::kDone;
  } catch (const CLI::ParseError& error) {
    throw usage_error(error, app, argc, argv);
  }
  return std::nullopt;
}

}  // namespace ink
