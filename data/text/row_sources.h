// The sources of documents, one per format. Each opens its file when it is made.
#pragma once

#include <memory>
#include <string>

#include "data/text/byte_source.h"
#include "data/text/document.h"

namespace ink {

// The whole file is one document.
[[nodiscard]] std::unique_ptr<RowSource> open_whole_file(std::unique_ptr<ByteSource> bytes);
// Every line that is not empty is one document.
[[nodiscard]] std::unique_ptr<RowSource> open_lines(std::unique_ptr<ByteSource> bytes);
// JSON Lines, or one JSON array of rows (recognised by its first character).
[[nodiscard]] std::unique_ptr<RowSource> open_json_rows(std::unique_ptr<ByteSource> bytes);
// Records between lines that hold a single `%`; ANSI escape sequences are removed.
[[nodiscard]] std::unique_ptr<RowSource> open_fortunes(std::unique_ptr<ByteSource> bytes);
// A dictd database: NAME.index says where each entry lies in NAME.dict or NAME.dict.dz beside it.
[[nodiscard]] std::unique_ptr<RowSource> open_dictd(const std::string& index_path);

}  // namespace ink
