#include "launch/trainer/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "engine/core/error.h"
#include "engine/io/file_writer.h"
#include "optim/checkpoint/find.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLock = ".lock";
constexpr std::array kMarks = {".failed", ".slow"};  // in the order of Mark
// What a run writes; --overwrite removes these and nothing else.
constexpr std::array kOwn = {"run.yaml", "metrics.jsonl", "log.txt", "tb",
                             "loss.svg", "report.html",   "samples", "flight"};

Error io_error(const fs::path& path, const std::string& what, int number) {
  return {ExitCode::kIo, path.string(), fmt::format("{}: {}", what, std::strerror(number))};
}

bool holds_a_run(const fs::path& path) {
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (name != kLock && name != "cache" && std::ranges::find(kMarks, name) == kMarks.end())
      return true;
  }
  return false;
}

void remove_run(const fs::path& path) {
  for (const char* name : kOwn) fs::remove_all(path / name);
  for (const FoundCheckpoint& found : find_checkpoints(path)) fs::remove_all(found.path);
  remove_leftovers(path);
}

// Whoever may write into it may put weights of his own into a checkpoint.
void make_private(const fs::path& path) {
  std::error_code failed;
  const bool made = fs::create_directories(path, failed);
  if (failed) throw io_error(path, "cannot make the run directory", failed.value());
  if (made) fs::permissions(path, fs::perms::others_write, fs::perm_options::remove, failed);
  const fs::perms mode = fs::status(path, failed).permissions();
  if (!failed && (mode & fs::perms::others_write) != fs::perms::none)
    throw Error(ExitCode::kIo, path.string(),
                fmt::format("expected a run directory that only its owner and group may write, got "
                            "mode {:04o}",
                            static_cast<unsigned>(mode)),
                "chmod o-w takes the right from the others");
}

std::string random_id() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

int take_lock(const fs::path& path, const std::string& run_id) {
  const fs::path file = path / kLock;
  const int fd = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) throw io_error(path, "expected a writable directory", errno);
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    std::array<char, 512> holder{};
    const ssize_t count = read(fd, holder.data(), holder.size() - 1);
    close(fd);
    throw Error(ExitCode::kIo, path.string(),
                fmt::format("expected a free run directory, got one in use by {}",
                            count > 0 ? holder.data() : "another process"));
  }
  const std::string text = fmt::format("run {} process {} on {}", run_id, getpid(), host.data());
  if (ftruncate(fd, 0) != 0 ||
      pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    const int number = errno;
    close(fd);
    throw io_error(path, "cannot write", number);
  }
  return fd;
}

}  // namespace

RunDirectory::RunDirectory(const fs::path& path, DirectoryUse use, uint64_t needed)
    : path_(path), run_id_(random_id()) {
  make_private(path_);
  lock_ = take_lock(path_, run_id_);
  if (use == DirectoryUse::kFresh && holds_a_run(path_)) {
    throw Error(
        ExitCode::kIo, path_.string(), "expected an empty run directory, got one that holds a run",
        "--resume latest goes on with it, --overwrite starts again in it, --out names another");
  }
  if (use == DirectoryUse::kOverwrite) remove_run(path_);
  require_free_bytes(path_, needed);
  remove_leftovers(path_);
  std::error_code ignored;
  for (const char* mark : kMarks) fs::remove(path_ / mark, ignored);
}

RunDirectory::~RunDirectory() {
  if (lock_ >= 0) close(lock_);
}

bool first_to_mark(const fs::path& run_directory, Mark mark) {
  const fs::path file = run_directory / kMarks[static_cast<size_t>(mark)];
  const int fd = open(file.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return errno != EEXIST;
  close(fd);
  return true;
}

}  // namespace ink
