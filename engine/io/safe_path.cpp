#include "engine/io/safe_path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace ink {
namespace {

namespace fs = std::filesystem;
constexpr int kMaxLinks = 8;
constexpr std::string_view kBlobs = "../../blobs/";

// -1 with errno as open(2). O_NONBLOCK: a FIFO must not block. Kernels before 5.6 and some
// sandboxes have no openat2; with a plain name O_NOFOLLOW alone keeps the same promise.
int open_beneath(int directory, const std::string& name) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  open_how how{};
  how.flags = kFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const long fd = ::syscall(SYS_openat2, directory, name.c_str(), &how, sizeof how);
  if (fd >= 0) return static_cast<int>(fd);
  if (errno != ENOSYS && errno != EPERM) return -1;
  return ::openat(directory, name.c_str(), kFlags);
}

std::string read_link(int directory, const std::string& name, const std::string& place) {
  std::array<char, 4096> target{};
  const ssize_t n = ::readlinkat(directory, name.c_str(), target.data(), target.size());
  if (n < 0) throw system_error(place, "read the link", errno);
  return {target.data(), static_cast<size_t>(n)};
}

bool is_blob_name(std::string_view name) {
  return (name.size() == 40 || name.size() == 64) &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

SafeDirectory::SafeDirectory(fs::path path) : path_(std::move(path)) {
  fd_ = Descriptor(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd_) throw system_error(path_.string(), "open the directory", errno);
}

File SafeDirectory::open(std::string_view name) const {
  std::string current(name);
  for (int links = 0; links <= kMaxLinks; ++links) {
    if (!is_plain_name(current)) {
      throw Error(ExitCode::kBadInput, path_.string(),
                  fmt::format("expected one file name inside the directory, got '{}'", name));
    }
    Descriptor fd(open_beneath(fd_.get(), current));
    if (fd) return {std::move(fd), place(name)};
    if (errno != ELOOP) throw system_error(place(name), "open", errno);
    current = read_link(fd_.get(), current, place(name));
    if (current.starts_with(kBlobs)) return open_blob(current.substr(kBlobs.size()), name);
    if (!is_plain_name(current)) {
      throw Error(ExitCode::kBadInput, place(name),
                  fmt::format("expected a file inside the directory, got a link to '{}'", current),
                  "copy the file into the directory");
    }
  }
  throw system_error(place(name), "open", ELOOP);
}

File SafeDirectory::open_blob(const std::string& blob, std::string_view name) const {
  std::error_code failed;
  const fs::path real = fs::canonical(path_, failed);
  if (failed || real.parent_path().filename() != "snapshots" || !is_blob_name(blob)) {
    throw Error(
        ExitCode::kBadInput, place(name),
        fmt::format("expected a file inside the directory, got a link to '{}{}'", kBlobs, blob),
        "copy the file into the directory");
  }
  const fs::path blobs_path = real.parent_path().parent_path() / "blobs";
  const Descriptor blobs(
      ::open(blobs_path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!blobs) throw system_error(blobs_path.string(), "open the directory", errno);
  Descriptor fd(open_beneath(blobs.get(), blob));
  if (!fd) throw system_error(place(name), "open", errno);
  return {std::move(fd), place(name)};
}

bool SafeDirectory::has(std::string_view name) const {
  struct stat status {};
  return is_plain_name(name) &&
         ::fstatat(fd_.get(), std::string(name).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

std::vector<std::string> SafeDirectory::names() const {
  std::vector<std::string> names;
  std::error_code failed;
  for (fs::directory_iterator it(path_, failed), end; !failed && it != end; it.increment(failed)) {
    names.push_back(it->path().filename().string());
  }
  if (failed) throw system_error(path_.string(), "list the directory", failed.value());
  std::sort(names.begin(), names.end());
  return names;
}

std::string SafeDirectory::place(std::string_view name) const { return (path_ / name).string(); }

}  // namespace ink
