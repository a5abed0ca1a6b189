// A file opened for reading: owns its descriptor, knows its size, reads ranges with pread.
//
// Reads go into memory of the caller, so a file that shrinks meanwhile is an error and not a
// SIGBUS. One File may be read by several threads at once. What is absent, not a regular file or
// too short is Error 3 (bad input); everything else the system refuses is Error 4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "engine/core/error.h"

namespace ink {

// Owns a file descriptor; -1 is none.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Error 3 for ENOENT, ENOTDIR, ELOOP and EISDIR, Error 4 for the rest: `cannot open: Permission
// denied`.
[[nodiscard]] Error system_error(const std::string& place, const std::string& action,
                                 int errno_value);

class [[nodiscard]] File {
 public:
  static File open(const std::filesystem::path& path);
  // Takes a descriptor that is already open; `place` is the name errors use.
  File(Descriptor fd, std::string place);

  [[nodiscard]] uint64_t size() const { return size_; }  // bytes, when it was opened
  [[nodiscard]] const std::string& place() const { return place_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  // Fills `out` from `offset`; Error 3 when the file ends before.
  void read(uint64_t offset, std::span<std::byte> out) const;

 private:
  Descriptor fd_;
  std::string place_;
  uint64_t size_ = 0;
};

// A whole file as text; Error 3 when it is larger than max_bytes.
[[nodiscard]] std::string read_text(const File& file, uint64_t max_bytes);
[[nodiscard]] std::string read_text(const std::filesystem::path& path, uint64_t max_bytes);

}  // namespace ink
