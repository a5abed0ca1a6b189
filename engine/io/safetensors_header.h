// The JSON of a safetensors header, event by event: no document is built, so memory grows with the
// number of tensors only. Used by SafetensorsTable::parse, which checks what the fields mean.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/json.h"
#include "engine/io/safetensors_table.h"

namespace ink {

// Appends entries in header order. Error 3 for anything but an object of
// `{"dtype": string, "shape": [unsigned...], "data_offsets": [unsigned, unsigned]}` and
// `__metadata__` of strings.
void parse_safetensors_header(std::string_view header, const std::string& place,
                              std::vector<SafetensorsEntry>& entries,
                              std::map<std::string, std::string>& metadata);

}  // namespace ink
