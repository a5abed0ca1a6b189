// A new file, written in order and made durable. Fails loudly: a full disk, a quota or a file-size
// limit (SIGXFSZ must be ignored by the process, so that it arrives as EFBIG) is Error 4 that tells
// path, bytes needed and bytes free. An existing file is never overwritten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "engine/io/file.h"

namespace ink {

class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path path);

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // fsync and close; nothing may be written afterwards. A failed sync is final.
  void close();

  [[nodiscard]] uint64_t written() const { return written_; }  // bytes
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  Descriptor fd_;
  uint64_t written_ = 0;
};

// Makes names that were created, renamed or removed in a directory durable.
void sync_directory(const std::filesystem::path& directory);
// Bytes an unprivileged process may still write to the file system of `path` (or its nearest
// existing parent).
[[nodiscard]] uint64_t free_bytes(const std::filesystem::path& path);
// Error 4 with both numbers when fewer than `needed` bytes are free: asked before a long write.
void require_free_bytes(const std::filesystem::path& path, uint64_t needed);

}  // namespace ink
