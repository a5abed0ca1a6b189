#include "launch/report/append_file.h"

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "engine/io/file_writer.h"

namespace ink {

AppendFile::AppendFile(std::filesystem::path path) : path_(std::move(path)) {
  fd_ = Descriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!fd_) fail("open");
}

void AppendFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void AppendFile::drop_torn_line() {
  std::array<char, 4096> block;
  off_t end = ::lseek(fd_.get(), 0, SEEK_END);
  if (end < 0) fail("seek");
  const off_t size = end;
  while (end > 0) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(block.size()));
    const ssize_t n = ::pread(fd_.get(), block.data(), static_cast<size_t>(end - begin), begin);
    if (n != end - begin) fail("read");
    const size_t at = std::string_view(block.data(), static_cast<size_t>(n)).find_last_of('\n');
    if (at != std::string_view::npos) {
      end = begin + static_cast<off_t>(at) + 1;
      break;
    }
    end = begin;
  }
  if (end < size && ::ftruncate(fd_.get(), end) != 0) fail("shorten");
}

void AppendFile::fail(std::string_view action) const {
  const int cause = errno;
  throw Error(ExitCode::kIo, path_.string(),
              fmt::format("cannot {}: {} ({} bytes free)", action,
                          std::generic_category().message(cause), free_bytes(path_)));
}

void make_directory(const std::filesystem::path& path) {
  std::error_code failed;
  std::filesystem::create_directories(path, failed);
  if (failed)
    throw Error(ExitCode::kIo, path.string(),
                fmt::format("cannot create the directory: {}", failed.message()));
}

}  // namespace ink
