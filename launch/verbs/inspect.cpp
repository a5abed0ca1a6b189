// inkstone inspect: what a path holds, and whether it verifies.

#include <cstdio>

#include "data/store/token_store.h"
#include "engine/io/json.h"
#include "launch/verbs/inspect_diff.h"
#include "launch/verbs/inspect_paths.h"
#include "launch/verbs/verb.h"
#include "models/hub/describe.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct InspectArguments {
  std::string path, diff;
  bool tensors = false, verify = false, json = false;
};

bool is_yaml(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".yaml" || extension == ".yml";
}

// A file of the hub's cache has a hash for a name, so what is no other kind is read as weights.
ordered_json describe_weights(const fs::path& path, DescribeMode mode) {
  try {
    return describe(path, mode);
  } catch (const Error& error) {
    if (path.extension() == ".safetensors") throw;
    throw Error(error.code(), error.place(), error.what(),
                "read as a safetensors file: it is no token store, and its name does not end in "
                ".yaml");
  }
}

ordered_json describe_path(const fs::path& path, Verify verify) {
  const DescribeMode mode = verify == Verify::kYes ? DescribeMode::kVerify : DescribeMode::kHeaders;
  if (!fs::exists(path))
    throw Error(ExitCode::kBadInput, path.string(), "expected a file or directory, got nothing");
  if (fs::is_directory(path)) {
    switch (model_path_kind(path)) {
      case ModelPathKind::kHuggingFace:
        return describe(path, mode);
      case ModelPathKind::kCheckpoint:
        return describe_checkpoint(path, verify);
      case ModelPathKind::kRun:
        return describe_run_directory(path, verify);
    }
  }
  if (is_yaml(path)) return describe_config(path);
  if (path.extension() == ".h5" || TokenStore::is_hdf5(path)) return describe_store(path, verify);
  return describe_weights(path, mode);
}

// Text from a file can hold anything: control characters stay off the terminal.
std::string plain(const ordered_json& value) {
  if (!value.is_string()) return value.dump();
  const std::string text = value.get<std::string>();
  const std::string quoted = quote_name(text);
  return quoted == '"' + text + '"' ? text : quoted;
}

std::string one_line(const ordered_json& object) {
  std::string line;
  for (const auto& [key, value] : object.items())
    line += fmt::format("{}{}={}", line.empty() ? "" : "  ", key, plain(value));
  return line;
}

void print_tensors(const ordered_json& tensors) {
  size_t width = 0;
  for (const auto& tensor : tensors) width = std::max(width, plain(tensor["name"]).size());
  for (const auto& tensor : tensors) {
    fmt::print("  {:<{}}  {:<4}  {}\n", plain(tensor["name"]), width, plain(tensor["dtype"]),
               tensor["shape"].dump());
  }
}

void print_text(const ordered_json& description, bool with_tensors) {
  for (const auto& [key, value] : description.items()) {
    if (key == "tensors") {
      fmt::print("{:<18} {}\n", key, value.size());
      if (with_tensors) print_tensors(value);
    } else if (value.is_object()) {
      fmt::print("{:<18} {}\n", key, one_line(value));
    } else if (value.is_array() && !value.empty() && value[0].is_object()) {
      fmt::print("{:<18} {}\n", key, value.size());
      for (const auto& row : value) fmt::print("  {}\n", one_line(row));
    } else {
      fmt::print("{:<18} {}\n", key, plain(value));
    }
  }
}

ExitCode run(const InspectArguments& a) {
  ordered_json description = a.diff.empty()
                                 ? describe_path(a.path, a.verify ? Verify::kYes : Verify::kNo)
                                 : diff_tensors(a.path, a.diff);
  if (a.json) {
    if (!a.tensors) description.erase("tensors");
    fmt::print("{}\n", description.dump(1, ' ', false, ordered_json::error_handler_t::replace));
  } else {
    print_text(description, a.tensors);
  }
  return ExitCode::kDone;
}

}  // namespace

void add_inspect(CLI::App& app, CommandLine& command) {
  CLI::App* verb = app.add_subcommand("inspect", "what a path holds, and whether it is whole");
  auto a = std::make_shared<InspectArguments>();
  verb->add_option(
          "path", a->path,
          "safetensors file, Hugging Face directory, step-N, run directory, token store or "
          "run file")
      ->required();
  CLI::Option* tensors = verb->add_flag("--tensors", a->tensors, "list every tensor");
  CLI::Option* verify =
      verb->add_flag("--verify", a->verify, "read everything: hashes, and that values are finite");
  verb->add_option("--diff", a->diff,
                   "another path: tensors that only one of them has, and how far the others lie "
                   "apart")
      ->excludes(tensors)
      ->excludes(verify);
  verb->add_flag("--json", a->json, "as JSON");
  verb->callback([a, &command] { command.run = [a] { return run(*a); }; });
}

}  // namespace ink
