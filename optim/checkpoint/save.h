// Writes checkpoints: step-N/{manifest.json, state/rank-R.safetensors, hf/}, complete or not at
// all.
//
// Files are written under `step-N.tmp-<id>`, synced and hashed; the manifest comes last; the
// directory is renamed and its parent synced. The state of a replicated parameter is written by
// coordinate 0 of its replica axes. A background save works on a Snapshot, one at a time; its
// failure is thrown by the next poll(), start() or wait(). Retention follows publishing: old
// checkpoints of the directory go only after a newer one is in place.
#pragma once

#include <filesystem>
#include <functional>
#include <future>
#include <optional>

#include "optim/checkpoint/manifest.h"
#include "optim/checkpoint/snapshot.h"

namespace ink {

// Writes the Hugging Face form below the given directory and lists the files it made (relative to
// it).
using WriteHf = std::function<std::vector<ManifestFile>(const std::filesystem::path& directory,
                                                        const Snapshot& snapshot)>;

struct SaveOptions {
  std::filesystem::path directory;  // the run directory
  std::string run_id;
  WriterInfo writer;
  int64_t keep = 3;
  std::optional<int64_t> best = std::nullopt;  // a step that is kept beside the newest
  WriteHf write_hf;                            // none: no hf/
};

struct SaveReport {
  int64_t step = 0;
  std::filesystem::path path;
  uint64_t bytes = 0;
  double seconds = 0;
};

// Bytes a save of this snapshot needs, without hf/.
[[nodiscard]] uint64_t snapshot_bytes(const Snapshot& snapshot);

// The whole protocol, on this thread.
SaveReport save_checkpoint(const Snapshot& snapshot, const SaveOptions& options);

class BackgroundSaver {
 public:
  // InternalError while a save is pending: wait() first.
  void start(Snapshot snapshot, SaveOptions options);
  [[nodiscard]] bool running() const { return pending_.valid(); }
  // The report of a save that has finished since the last call.
  [[nodiscard]] std::optional<SaveReport> poll();
  [[nodiscard]] std::optional<SaveReport> wait();
  ~BackgroundSaver();

 private:
  std::future<SaveReport> pending_;
};

}  // namespace ink
