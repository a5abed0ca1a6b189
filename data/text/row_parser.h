// One JSON row of a pretraining corpus -> Document. Forms, by the keys present:
//   {"tokens": [1, -333]}               InternEvo: input |w|, target if w > 0
//   {"input_ids": [...], "labels": [...]}  labels unshifted, -100 or the id itself; absent = all
//   targets
//   {"text": "..."} or {"content": "..."}
#pragma once

#include <string>
#include <string_view>

#include "data/text/document.h"

namespace ink {

// RowError with place if the row is malformed or has none of these keys.
void parse_row(std::string_view row, const std::string& place, Document& document);

}  // namespace ink
