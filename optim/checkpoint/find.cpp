#include "optim/checkpoint/find.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "engine/io/atomic_file.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

std::optional<int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end) return std::nullopt;
  return step;
}

// Newest first.
OpenedCheckpoint open_newest(const std::vector<FoundCheckpoint>& candidates, bool verify) {
  OpenedCheckpoint opened;
  for (const FoundCheckpoint& found : candidates) {
    std::string problem = found.problem;
    if (problem.empty()) {
      try {
        opened.manifest = read_manifest(found.path, verify);
        if (verify) verify_files(found.path, opened.manifest);
        opened.path = found.path;
        return opened;
      } catch (const Error& error) {
        problem = error.place() + ": " + error.what();
      }
    }
    opened.notices.push_back(
        fmt::format("{} is passed over: {}", found.path.filename().string(), problem));
  }
  opened.manifest = {};
  return opened;
}

}  // namespace

std::vector<FoundCheckpoint> find_checkpoints(const fs::path& run_directory, bool verify) {
  std::vector<FoundCheckpoint> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run_directory, ignored)) {
    const auto step = step_of(entry.path().filename().string());
    if (!step || !entry.is_directory()) continue;
    FoundCheckpoint checkpoint{*step, entry.path(), {}, {}};
    try {
      const Manifest manifest = read_manifest(entry.path(), verify);
      if (manifest.step != *step)
        checkpoint.problem = fmt::format("manifest.json is of step {}", manifest.step);
      checkpoint.marks = marks_of(manifest.trainer, (entry.path() / "manifest.json").string());
    } catch (const Error& error) {
      checkpoint.problem = error.place() + ": " + error.what();
    }
    found.push_back(std::move(checkpoint));
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

void remove_leftovers(const fs::path& run_directory) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run_directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (is_temporary_name(name) && name.starts_with("step-")) fs::remove_all(entry.path(), ignored);
  }
}

OpenedCheckpoint open_latest(const fs::path& run_directory, bool verify) {
  return open_newest(find_checkpoints(run_directory, verify), verify);
}

OpenedCheckpoint open_latest_good(const fs::path& run_directory, int64_t before) {
  std::vector<FoundCheckpoint> found = find_checkpoints(run_directory);
  std::erase_if(found, [before](const FoundCheckpoint& one) {
    return one.step >= before || !one.marks.loss_spike.is_null();
  });
  return open_newest(found, true);
}

OpenedCheckpoint checkpoint_from(const fs::path& path, const std::string& manifest) {
  return {.path = path,
          .manifest = parse_manifest(manifest, (path / "manifest.json").string()),
          .notices = {}};
}

OpenedCheckpoint open_checkpoint(const fs::path& path, bool verify) {
  if (!fs::is_directory(path))
    throw Error(ExitCode::kBadInput, path.string(),
                "expected a checkpoint or run directory, got nothing");
  if (!fs::exists(path / "manifest.json") && !step_of(path.filename().string())) {
    OpenedCheckpoint opened = open_latest(path, verify);
    if (opened.path.empty()) {
      throw Error(ExitCode::kBadInput, path.string(),
                  "expected a run directory with a whole step-N, got none",
                  opened.notices.empty() ? "" : opened.notices.front());
    }
    return opened;
  }
  OpenedCheckpoint opened{.path = path, .manifest = read_manifest(path, verify), .notices = {}};
  if (verify) verify_files(path, opened.manifest);
  return opened;
}

}  // namespace ink
