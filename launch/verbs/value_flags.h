// Flag values with the grammar of run files: sizes such as 10MB, data formats by name.
#pragma once

#include <cstdint>
#include <string>

#include "configs/schema/data_options.h"

namespace ink {

// `10MB`, `512KiB`, `4096`; Error(kConfig) names the flag.
[[nodiscard]] int64_t parse_bytes_flag(const std::string& flag, const std::string& text);
[[nodiscard]] DataFormat parse_format_flag(const std::string& text);

}  // namespace ink
