// The header of a NumPy .npy file, read strictly, and written. Called by the InternEvo reader.
// Source: NumPy's numpy/lib/format.py (versions 1.0 and 2.0).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ink {

enum class NpyType { kInt32, kInt64 };

struct NpyHeader {
  NpyType type = NpyType::kInt32;
  std::vector<int64_t> shape;
  size_t data_offset = 0;  // bytes
};

// Code 3 with `place` unless `bytes` begins with a header of a little-endian int32 or int64 array
// in C order.
[[nodiscard]] NpyHeader parse_npy_header(std::string_view bytes, const std::string& place);

// Version 1.0 of an int64 array in C order; as NumPy does, its length is a multiple of 64.
[[nodiscard]] std::string npy_header(const std::vector<int64_t>& shape);

}  // namespace ink
