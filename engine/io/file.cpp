#include "engine/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace ink {

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Error system_error(const std::string& place, const std::string& action, int errno_value) {
  const bool bad_input = errno_value == ENOENT || errno_value == ENOTDIR || errno_value == ELOOP ||
                         errno_value == EISDIR;
  return {bad_input ? ExitCode::kBadInput : ExitCode::kIo, place,
          fmt::format("cannot {}: {}", action, std::generic_category().message(errno_value))};
}

File File::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO must fail below, not wait for a writer.
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) throw system_error(path.string(), "open", errno);
  return {std::move(fd), path.string()};
}

File::File(Descriptor fd, std::string place) : fd_(std::move(fd)), place_(std::move(place)) {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) throw system_error(place_, "stat", errno);
  if (!S_ISREG(status.st_mode)) {
    throw Error(ExitCode::kBadInput, place_,
                fmt::format("expected a regular file, got {}",
                            S_ISDIR(status.st_mode) ? "a directory" : "a device, pipe or socket"));
  }
  size_ = static_cast<uint64_t>(status.st_size);
}

void File::read(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw system_error(place_, "read", errno);
    if (n == 0) {
      throw Error(ExitCode::kBadInput, place_,
                  fmt::format("expected {} bytes at offset {}, got {}: the file ends there",
                              out.size(), offset, done));
    }
    done += static_cast<size_t>(n);
  }
}

std::string read_text(const File& file, uint64_t max_bytes) {
  if (file.size() > max_bytes) {
    throw Error(ExitCode::kBadInput, file.place(),
                fmt::format("expected at most {} bytes, got {}", max_bytes, file.size()));
  }
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

std::string read_text(const std::filesystem::path& path, uint64_t max_bytes) {
  return read_text(File::open(path), max_bytes);
}

}  // namespace ink
