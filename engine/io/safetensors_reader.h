// A safetensors file, opened and checked; data is read by ranges into the caller's memory.
//
// Opening costs the header only. A file that is a zip or a pickle is refused as such: there is no
// other reader to fall back to. Several threads may read at once.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "engine/io/file.h"
#include "engine/io/safetensors_table.h"

namespace ink {

class SafetensorsReader {
 public:
  explicit SafetensorsReader(File file);
  static SafetensorsReader open(const std::filesystem::path& path) {
    return SafetensorsReader(File::open(path));
  }

  [[nodiscard]] const SafetensorsTable& table() const { return table_; }
  [[nodiscard]] const File& file() const { return file_; }
  [[nodiscard]] const std::string& place() const { return file_.place(); }
  // Fills `out` from byte `offset` of the tensor; the range must lie inside it.
  void read(const SafetensorsEntry& entry, uint64_t offset, std::span<std::byte> out) const;

 private:
  File file_;
  uint64_t data_start_ = 0;
  SafetensorsTable table_;
};

}  // namespace ink
