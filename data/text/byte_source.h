// The bytes of a data file as a stream, unpacked where its content says gzip (1F 8B) or zstd
// (28 B5 2F FD), whatever the file is called. Sequential, one thread. Several gzip members or zstd
// frames in one file are read as one stream.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace ink {

class ByteSource {
 public:
  // Code 3 if the file is absent.
  explicit ByteSource(const std::string& path);
  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // The next bytes, empty at the end; valid until the next call. Code 3 if the packed data are
  // damaged or cut.
  [[nodiscard]] std::string_view next();
  // The first bytes (some ten thousand, less if the file is shorter), without taking them from the
  // stream. To be called before next.
  [[nodiscard]] std::string_view peek();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int64_t file_bytes_read() const;  // of the file as it lies on disk

 private:
  struct Stream;
  [[nodiscard]] std::string_view unpack();

  std::string path_;
  std::unique_ptr<Stream> stream_;
  std::string peeked_;
};

// Everything that is left of the source; code 3 past limit bytes.
[[nodiscard]] std::string read_all(ByteSource& source, size_t limit);

// Lines without their "\n" or "\r\n", numbered from 1.
class LineReader {
 public:
  explicit LineReader(ByteSource& source) : source_(source) {}

  // false at the end. Code 3 for a line above the limit (256 MiB).
  [[nodiscard]] bool next(std::string& line);
  [[nodiscard]] int64_t line_number() const { return line_number_; }  // of the line that next gave

 private:
  ByteSource& source_;
  std::string_view chunk_;
  int64_t line_number_ = 0;
};

}  // namespace ink
