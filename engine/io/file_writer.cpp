#include "engine/io/file_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace ink {
namespace {

std::filesystem::path parent_of(const std::filesystem::path& path) {
  const std::filesystem::path parent = path.parent_path();
  return parent.empty() ? "." : parent;
}

}  // namespace

FileWriter::FileWriter(std::filesystem::path path) : path_(std::move(path)) {
  fd_ = Descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd_) {
    throw Error(ExitCode::kIo, path_.string(),
                fmt::format("cannot create: {}", std::generic_category().message(errno)));
  }
}

void FileWriter::write(std::span<const std::byte> bytes) {
  CHECK(fd_, "{} is closed", path_.string());
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd_.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int cause = errno;
      throw Error(ExitCode::kIo, path_.string(),
                  fmt::format("cannot write {} more bytes after {}: {} ({} bytes free)",
                              bytes.size() - done, written_, std::generic_category().message(cause),
                              free_bytes(path_)));
    }
    done += static_cast<size_t>(n);
    written_ += static_cast<uint64_t>(n);
  }
}

void FileWriter::close() {
  CHECK(fd_, "{} is closed", path_.string());
  if (::fsync(fd_.get()) != 0) {
    throw Error(ExitCode::kIo, path_.string(),
                fmt::format("cannot make {} bytes durable: {} ({} bytes free)", written_,
                            std::generic_category().message(errno), free_bytes(path_)));
  }
  fd_ = Descriptor();
}

void sync_directory(const std::filesystem::path& directory) {
  const Descriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) {
    throw Error(
        ExitCode::kIo, directory.string(),
        fmt::format("cannot sync the directory: {}", std::generic_category().message(errno)));
  }
}

uint64_t free_bytes(const std::filesystem::path& path) {
  std::error_code failed;
  std::filesystem::path existing = path;
  while (!std::filesystem::exists(existing, failed) && existing != parent_of(existing)) {
    existing = parent_of(existing);
  }
  const std::filesystem::space_info space = std::filesystem::space(existing, failed);
  return failed ? 0 : space.available;
}

void require_free_bytes(const std::filesystem::path& path, uint64_t needed) {
  const uint64_t free = free_bytes(path);
  if (free < needed) {
    throw Error(ExitCode::kIo, path.string(),
                fmt::format("expected {} bytes of free space, got {}", needed, free));
  }
}

}  // namespace ink
