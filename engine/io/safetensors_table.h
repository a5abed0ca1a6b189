// What a safetensors header says, checked in full before anybody uses it.
//
// The file is: u64 length N (little-endian), N bytes of JSON, one data buffer. The table is
// immutable and proven: names are unique, every range agrees with dtype and shape, the ranges cover
// the buffer without hole or overlap. Nobody reads raw header fields again. Format: spec of the
// safetensors project; dtypes that this program does not compute in are listed too, so that a file
// holding them can be inspected.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/dtype.h"

namespace ink {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, set by the format

// An element type of the format. `bits` is 4 or 6 for packed types.
struct FileDType {
  std::string_view name;  // "BF16"
  int bits = 0;
  std::optional<DType> native;  // ours, when there is one
};
[[nodiscard]] const FileDType* find_file_dtype(std::string_view name);  // nullptr: unknown
[[nodiscard]] const FileDType& file_dtype_of(DType dtype);

struct SafetensorsEntry {
  std::string name;
  const FileDType* dtype = nullptr;  // never null in a table
  std::vector<int64_t> shape;        // [] is a scalar
  uint64_t begin = 0, end = 0;       // bytes, relative to the data buffer

  [[nodiscard]] uint64_t bytes() const { return end - begin; }
  [[nodiscard]] int64_t numel() const;
};
[[nodiscard]] std::string shape_text(std::span<const int64_t> shape);  // "[2, 3]"

class SafetensorsTable {
 public:
  // `header` is the JSON text, `data_bytes` what the file holds after it. Error 3 at `place`,
  // naming the tensor.
  static SafetensorsTable parse(std::string_view header, uint64_t data_bytes,
                                const std::string& place);

  [[nodiscard]] std::span<const SafetensorsEntry> entries() const { return entries_; }  // by offset
  [[nodiscard]] const SafetensorsEntry* find(std::string_view name) const;  // nullptr: none
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::vector<SafetensorsEntry> entries_;
  std::vector<uint32_t> by_name_;  // indices into entries_, in order of the names
  std::map<std::string, std::string> metadata_;
};

}  // namespace ink
