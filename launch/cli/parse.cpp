#include "launch/cli/parse.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "engine/core/cpu_features.h"
#include "engine/kernels/library_versions.h"
#include "engine/tensor/backend.h"
#include "engine/tensor/devices.h"
#include "launch/cli/usage_error.h"

namespace ink {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done, 2 configuration or usage, 3 bad input file, 4 I/O or environment, 5 "
    "numerical abort,\n"
    "6 peer or communication failure, 7 out of memory, 75 stopped on request with the state saved.";

void add_verbs(CLI::App& app, CommandLine& command) {
  add_train(app, command);
  add_data(app, command);
  add_generate(app, command);
  add_export(app, command);
  add_inspect(app, command);
  add_config(app, command);
  add_doctor(app, command);
  add_completion(app, command);
}

// A missing verb is told by us: CLI11 would say so before it looks at a misspelt one.
void accept_no_verb(CLI::App& app) {
  app.require_subcommand(0, 1);
  for (CLI::App* sub : app.get_subcommands([](CLI::App*) { return true; })) accept_no_verb(*sub);
}

// Is the word behind --resume its value? Not where it is a flag, a run file or a key=value.
bool is_checkpoint(std::string_view word) {
  const bool override = word.find('=') < word.find('/');
  return !word.starts_with('-') && !override && !word.ends_with(".yaml") && !word.ends_with(".yml");
}

// train --resume without a value is --resume=latest.
std::vector<std::string> words_of(int argc, char** argv) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const auto verb = std::ranges::find_if(words, [](const auto& w) { return !w.starts_with('-'); });
  if (verb == words.end() || *verb != "train") return words;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--resume" && (i + 1 == words.size() || !is_checkpoint(words[i + 1])))
      words[i] = "--resume=latest";
  }
  return words;
}

}  // namespace

std::string version_text() {
#ifdef INKSTONE_MPI
  const char* mpi = "on";
#else
  const char* mpi = "off";
#endif
  const std::string cuda =
      has_backend(Device::kCuda) ? device_platform(Device::kCuda).runtime : "off";
  return fmt::format("inkstone {}\nCUDA {}, MPI {}, {}\ninstruction set {}", INKSTONE_VERSION, cuda,
                     mpi, library_versions(), instruction_set());
}

std::optional<ExitCode> parse_command_line(int argc, char** argv, CommandLine& command) {
  CLI::App app("Pretrains InternLM-family language models.", "inkstone");
  app.footer(kFooter);
  app.set_version_flag("--version", version_text, "build options, libraries, instruction set");
  app.set_help_flag("-h,--help", "this text");
  app.add_flag("--quiet", command.quiet, "nothing on stderr but errors");
  app.add_flag("--no-color", command.no_color, "no colours, even on a terminal");
  app.fallthrough();
  for (int i = 0; i < argc; ++i) command.text += (i ? " " : "") + std::string(argv[i]);
  add_verbs(app, command);
  accept_no_verb(app);
  try {
    std::vector<std::string> words = words_of(argc, argv);
    std::reverse(words.begin(), words.end());  // the order that CLI11 takes
    app.parse(std::move(words));
  } catch (const CLI::Success& done) {
    app.exit(done);
    return ExitCode::kDone;
  } catch (const CLI::ParseError& error) {
    throw usage_error(error, app);
  }
  if (!command.run) throw missing_verb(app);
  refuse_empty_values(app);
  return std::nullopt;
}

}  // namespace ink
