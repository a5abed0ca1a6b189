// inkstone data meta: the .bin.meta files of InternEvo's token folders, made anew.

#include <cstdio>

#include "data/store/internevo.h"
#include "data/store/internevo_meta.h"
#include "launch/report/progress_line.h"
#include "launch/verbs/data_verbs.h"

namespace ink {
namespace {

ExitCode meta(const std::vector<std::string>& paths, const CommandLine& command) {
  ProgressLine progress(command.quiet);
  for (const std::string& path : paths) {
    for (const InternEvoFile& file : list_internevo(path, MetaFiles::kAbsentToo).files) {
      progress.show(file.path.string());
      const ScannedMeta scanned = write_internevo_meta(file.path);
      fmt::print("{}  {} samples  {} tokens\n", meta_of(file.path).string(), scanned.samples,
                 scanned.tokens);
    }
  }
  return ExitCode::kDone;
}

}  // namespace

void add_data_meta(CLI::App& data, CommandLine& command) {
  CLI::App* verb =
      data.add_subcommand("meta", "make the .bin.meta files of InternEvo tokens by reading them");
  auto paths = std::make_shared<std::vector<std::string>>();
  verb->add_option("paths", *paths, ".bin files, or folders of them")->required();
  verb->callback(
      [paths, &command] { command.run = [paths, &command] { return meta(*paths, command); }; });
}

}  // namespace ink
