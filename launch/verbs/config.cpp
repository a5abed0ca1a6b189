// inkstone config: the shipped configurations, and what a run file means.

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "configs/schema/foreign_file.h"
#include "configs/schema/gallery.h"
#include "configs/schema/reference.h"
#include "launch/verbs/value_flags.h"
#include "launch/verbs/verb.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

fs::path gallery() {
  const char* named = std::getenv("INKSTONE_CONFIGS");
  return find_gallery(named == nullptr ? "" : named, fs::read_symlink("/proc/self/exe"));
}

ExitCode list(const std::string& pattern, bool json) {
  const std::vector<GalleryEntry> entries = list_gallery(gallery(), pattern);
  if (json) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const GalleryEntry& entry : entries)
      rows.push_back({{"name", entry.name}, {"title", entry.title}, {"path", entry.path.string()}});
    fmt::print("{}\n", rows.dump(1));
    return ExitCode::kDone;
  }
  size_t width = 0;
  for (const GalleryEntry& entry : entries) width = std::max(width, entry.name.size());
  for (const GalleryEntry& entry : entries)
    fmt::print("{:<{}}  {}\n", entry.name, width, entry.title);
  return ExitCode::kDone;
}

void add_list(CLI::App& config, CommandLine& command) {
  CLI::App* verb = config.add_subcommand("list", "the shipped configurations");
  auto pattern = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  verb->add_option("-p,--pattern", *pattern, "part of the name; * and ? stand for others");
  verb->add_flag("--json", *json, "as JSON");
  verb->callback([=, &command] { command.run = [=] { return list(*pattern, *json); }; });
}

void add_copy(CLI::App& config, CommandLine& command) {
  CLI::App* verb = config.add_subcommand("copy", "write a shipped configuration that stands alone");
  auto name = std::make_shared<std::string>(), destination = std::make_shared<std::string>();
  verb->add_option("name", *name, "as `config list` shows it")->required();
  verb->add_option("destination", *destination, "file or folder")->required();
  verb->callback([=, &command] {
    command.run = [=] {
      fmt::print("{}\n", copy_from_gallery(gallery(), *name, *destination).string());
      return ExitCode::kDone;
    };
  });
}

void add_check(CLI::App& config, CommandLine& command) {
  CLI::App* verb =
      config.add_subcommand("check", "check a file and print it with every key filled in");
  auto file = std::make_shared<std::string>();
  auto overrides = std::make_shared<std::vector<std::string>>();
  auto tool = std::make_shared<std::string>();
  verb->add_option("file", *file, "run file (YAML)")->required();
  verb->add_option("overrides", *overrides, "key.sub=value, such as train.steps=100");
  verb->add_option("--from", *tool,
                   "the file is another tool's: print its keys beside the names they have here")
      ->check(one_of({"llamafactory", "axolotl"}));
  verb->callback([=, &command] {
    command.run = [=] {
      if (!tool->empty() && !overrides->empty())
        throw Error(ExitCode::kConfig, "--from", "expected no overrides beside it, got some");
      const std::string name = *tool == "llamafactory" ? "LLaMA-Factory" : *tool;
      fmt::print("{}",
                 tool->empty() ? check_config(*file, *overrides) : translate_keys(*file, name));
      return ExitCode::kDone;
    };
  });
}

void add_doc(CLI::App& config, CommandLine& command) {
  CLI::App* verb = config.add_subcommand("doc", "every key with type, default and range");
  auto pattern = std::make_shared<std::string>();
  auto markdown = std::make_shared<bool>(false);
  verb->add_option("pattern", *pattern, "part of the key");
  verb->add_flag("--markdown", *markdown, "the whole page docs/run-file.md");
  verb->callback([=, &command] {
    command.run = [=] {
      if (*markdown && !pattern->empty())
        throw Error(ExitCode::kConfig, "--markdown", "expected no pattern, got " + *pattern);
      const std::string text = *markdown ? reference_page() : reference_text(*pattern);
      if (text.empty())
        throw Error(ExitCode::kConfig, "pattern",
                    fmt::format("expected part of a key, got {}", *pattern));
      fmt::print("{}", text);
      return ExitCode::kDone;
    };
  });
}

}  // namespace

void add_config(CLI::App& app, CommandLine& command) {
  CLI::App* config = app.add_subcommand("config", "list, copy, check and explain run files");
  config->require_subcommand(1);
  add_list(*config, command);
  add_copy(*config, command);
  add_check(*config, command);
  add_doc(*config, command);
}

}  // namespace ink
