// Makes X.bin.meta out of X.bin: for folders that lost it, or hold 32-bit offsets of a file beyond
// 2 GiB. Called by `data meta`.
#pragma once

#include <cstdint>
#include <filesystem>

namespace ink {

struct ScannedMeta {
  int64_t samples = 0, tokens = 0;
};

// Reads every line as the reader would (code 3 with file and line), then writes int64 rows; a .meta
// that exists is replaced only when the whole file has been read.
ScannedMeta write_internevo_meta(const std::filesystem::path& bin);

}  // namespace ink
