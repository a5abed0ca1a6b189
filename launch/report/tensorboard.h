// TensorBoard event files, written without TensorFlow or protobuf.
//
// A file is a sequence of records: length (u64), masked CRC-32C of the length (u32), payload,
// masked CRC-32C of the payload (u32), all little-endian. A payload is a tensorflow.Event message;
// the first one carries file_version "brain.Event:2". Field numbers are those of tensorflow's
// event.proto, summary.proto and tensor.proto. Errors of the file system are Error 4.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "launch/report/append_file.h"

namespace ink {

[[nodiscard]] uint32_t crc32c(std::string_view bytes);  // Castagnoli, as in RFC 3720 B.4
[[nodiscard]] uint32_t masked_crc32c(std::string_view bytes);

class TensorBoardFile {
 public:
  // Begins `events.out.tfevents.<unix time>.<host>` in the directory, which it makes.
  explicit TensorBoardFile(const std::filesystem::path& directory);

  void scalar(std::string_view tag, int64_t step, double value);
  void text(std::string_view tag, int64_t step, std::string_view text);
  // Tells the viewer to forget what earlier files say of this step and later ones.
  void restart_at(int64_t step);

  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }

 private:
  void record(std::string_view payload);

  AppendFile file_;
};

}  // namespace ink
