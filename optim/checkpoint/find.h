// Which checkpoints a run directory holds. "Latest" is derived by looking, never read from a
// pointer file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "optim/checkpoint/manifest.h"
#include "optim/checkpoint/marks.h"

namespace ink {

struct FoundCheckpoint {
  int64_t step = 0;
  std::filesystem::path path;
  std::string problem;  // why it cannot be used; empty = its manifest is valid
  CheckpointMarks marks;
};

// Every step-N of the directory, newest first; temporary directories are left out. verify: the hash
// of each manifest.
[[nodiscard]] std::vector<FoundCheckpoint> find_checkpoints(
    const std::filesystem::path& run_directory, bool verify = true);

// Temporary directories that a killed save left behind.
void remove_leftovers(const std::filesystem::path& run_directory);

struct OpenedCheckpoint {
  std::filesystem::path path;
  Manifest manifest;
  std::vector<std::string> notices;  // damaged ones that were passed over
};

// `latest` semantics: the newest checkpoint whose files verify; path is empty where there is none.
[[nodiscard]] OpenedCheckpoint open_latest(const std::filesystem::path& run_directory,
                                           bool verify = true);
// The newest one whose files verify among those of earlier steps than `before` that were not saved
// in a loss spike; path is empty where there is none.
[[nodiscard]] OpenedCheckpoint open_latest_good(const std::filesystem::path& run_directory,
                                                int64_t before);
// On a rank that looks at nothing itself: what another one opened, from the text of its manifest.
[[nodiscard]] OpenedCheckpoint checkpoint_from(const std::filesystem::path& path,
                                               const std::string& manifest);
// An explicit step-N directory, or a run directory (its latest; Error 3 when it has none). Error 3
// when damaged.
[[nodiscard]] OpenedCheckpoint open_checkpoint(const std::filesystem::path& path,
                                               bool verify = true);

}  // namespace ink
