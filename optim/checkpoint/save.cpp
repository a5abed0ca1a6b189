#include "optim/checkpoint/save.h"

#include <algorithm>
#include <chrono>
#include <ctime>

#include "engine/io/atomic_file.h"
#include "engine/io/safetensors_writer.h"
#include "optim/checkpoint/find.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

// One safetensors file with everything this rank holds; returns its entry.
ManifestFile write_state(const fs::path& directory, const std::string& name,
                         const Snapshot& snapshot) {
  std::vector<SafetensorsSpec> specs;
  for (const HostTensor& t : snapshot.tensors) specs.push_back({t.name, t.dtype, t.local_shape});
  SafetensorsWriter writer(directory / name, std::move(specs));
  for (const HostTensor& t : snapshot.tensors) writer.write(t.name, t.bytes);
  const WrittenFile written = writer.finish();
  return {name, written.bytes, written.sha256};
}

std::vector<ManifestTensor> list_tensors(const Snapshot& snapshot, const std::string& file) {
  std::vector<ManifestTensor> tensors;
  for (const HostTensor& t : snapshot.tensors)
    tensors.push_back({t.name, file, t.dtype, t.shape, t.pieces});
  return tensors;
}

void write_manifest(const fs::path& directory, const Manifest& manifest) {
  FileWriter file(directory / "manifest.json");
  file.write(manifest_text(manifest));
  file.close();
}

// Under a temporary name first: a kill in between leaves no half step-N behind.
void remove_checkpoint(const fs::path& path) {
  const fs::path doomed = temporary_name(path);
  fs::rename(path, doomed);
  fs::remove_all(doomed);
}

void remove_old(const fs::path& directory, const SaveOptions& options) {
  std::vector<FoundCheckpoint> found = find_checkpoints(directory);
  std::erase_if(found, [](const FoundCheckpoint& c) { return !c.problem.empty(); });
  for (size_t i = static_cast<size_t>(options.keep); i < found.size(); ++i)
    if (found[i].step != options.best) remove_checkpoint(found[i].path);
}

}  // namespace

uint64_t snapshot_bytes(const Snapshot& snapshot) {
  uint64_t bytes = uint64_t{1} << 20;
  for (const HostTensor& t : snapshot.tensors) bytes += t.bytes.size();
  return bytes;
}

SaveReport save_checkpoint(const Snapshot& snapshot, const SaveOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  require_free_bytes(options.directory, snapshot_bytes(snapshot));
  const fs::path final_path = options.directory / fmt::format("step-{}", snapshot.step);
  AtomicDirectory directory(final_path, Existing::kReplace);
  fs::permissions(directory.path(), fs::perms::owner_all);  // weights are the owner's to give away
  fs::create_directory(directory.path() / "state");
  Manifest manifest{.step = snapshot.step,
                    .run_id = options.run_id,
                    .created = utc_now(),
                    .writer = options.writer,
                    .trainer = snapshot.trainer};
  const std::string state = "state/rank-0.safetensors";
  manifest.files.push_back(write_state(directory.path(), state, snapshot));
  manifest.tensors = list_tensors(snapshot, state);
  sync_directory(directory.path() / "state");
  if (options.write_hf) {
    for (ManifestFile& file : options.write_hf(directory.path() / "hf", snapshot)) {
      file.name = "hf/" + file.name;
      manifest.files.push_back(std::move(file));
    }
  }
  write_manifest(directory.path(), manifest);
  directory.commit();
  remove_old(options.directory, options);
  SaveReport report{.step = snapshot.step, .path = final_path};
  for (const ManifestFile& file : manifest.files) report.bytes += file.bytes;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

void BackgroundSaver::start(Snapshot snapshot, SaveOptions options) {
  CHECK(!pending_.valid(), "a save starts while the one before it has not been waited for");
  pending_ = std::async(std::launch::async,
                        [snapshot = std::move(snapshot), options = std::move(options)] {
                          return save_checkpoint(snapshot, options);
                        });
}

std::optional<SaveReport> BackgroundSaver::poll() {
  if (!pending_.valid() || pending_.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
    return std::nullopt;
  return pending_.get();
}

std::optional<SaveReport> BackgroundSaver::wait() {
  if (!pending_.valid()) return std::nullopt;
  return pending_.get();
}

BackgroundSaver::~BackgroundSaver() {
  if (pending_.valid()) pending_.wait();
}

}  // namespace ink
