#include "engine/io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <random>
#include <system_error>

namespace ink {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kSuffix = ".tmp-";

// `dir/` and `dir` are the same name.
fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

fs::path parent_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? "." : parent;
}

[[noreturn]] void fail(const fs::path& path, std::string_view action, int cause) {
  throw Error(ExitCode::kIo, path.string(),
              fmt::format("cannot {}: {}", action, std::generic_category().message(cause)));
}

void refuse_existing(const fs::path& path) {
  std::error_code failed;
  if (fs::exists(fs::symlink_status(path, failed)) &&
      !(fs::is_directory(path, failed) && fs::is_empty(path, failed))) {
    throw Error(ExitCode::kIo, path.string(), "expected a new name, got one that exists");
  }
}

// RENAME_NOREPLACE closes the gap between looking and renaming; some file systems do not know it.
void rename_new(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS && errno != EEXIST) fail(to, "publish", errno);
  refuse_existing(to);  // an empty directory may be replaced
  if (::rename(from.c_str(), to.c_str()) != 0) fail(to, "publish", errno);
}

}  // namespace

fs::path temporary_name(const fs::path& final_path) {
  std::random_device entropy;
  const uint64_t id = (uint64_t{entropy()} << 32) | entropy();
  fs::path name = without_trailing_slash(final_path);
  name += fmt::format("{}{}-{:016x}", kSuffix, ::getpid(), id);
  return name;
}

bool is_temporary_name(std::string_view file_name) {
  return file_name.find(kSuffix) != std::string_view::npos;
}

AtomicFile::AtomicFile(fs::path final_path, Existing existing)
    : final_path_(std::move(final_path)),
      temporary_path_(temporary_name(final_path_)),
      existing_(existing) {
  if (existing_ == Existing::kRefuse) refuse_existing(final_path_);
  writer_.emplace(temporary_path_);
}

AtomicFile::~AtomicFile() {
  if (writer_) ::unlink(temporary_path_.c_str());
}

void AtomicFile::commit() {
  writer_->close();
  if (existing_ == Existing::kRefuse) {
    rename_new(temporary_path_, final_path_);
  } else if (::rename(temporary_path_.c_str(), final_path_.c_str()) != 0) {
    fail(final_path_, "publish", errno);
  }
  writer_.reset();
  sync_directory(parent_of(final_path_));
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.writer().write(text);
  file.commit();
}

AtomicDirectory::AtomicDirectory(const fs::path& final_path, Existing existing)
    : final_path_(without_trailing_slash(final_path)),
      temporary_path_(temporary_name(final_path_)),
      existing_(existing) {
  if (existing_ == Existing::kRefuse) refuse_existing(final_path_);
  std::error_code failed;
  fs::create_directories(parent_of(final_path_), failed);
  if (!failed) fs::create_directory(temporary_path_, failed);
  if (failed) fail(temporary_path_, "create the directory", failed.value());
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_path_, ignored);
}

void AtomicDirectory::commit() {
  sync_directory(temporary_path_);
  std::error_code failed;
  if (existing_ == Existing::kReplace && fs::exists(fs::symlink_status(final_path_, failed))) {
    // The old directory leaves under a temporary name and goes only when the new one stands.
    const fs::path old = temporary_name(final_path_);
    if (::rename(final_path_.c_str(), old.c_str()) != 0) fail(final_path_, "replace", errno);
    if (::rename(temporary_path_.c_str(), final_path_.c_str()) != 0) {
      const int cause = errno;
      ::rename(old.c_str(), final_path_.c_str());
      fail(final_path_, "publish", cause);
    }
    committed_ = true;
    sync_directory(parent_of(final_path_));
    fs::remove_all(old, failed);
    return;
  }
  rename_new(temporary_path_, final_path_);
  committed_ = true;
  sync_directory(parent_of(final_path_));
}

}  // namespace ink
