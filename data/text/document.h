// One document as a reader yields it, and the error of a row that cannot be one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/core/error.h"

namespace ink {

struct Document {
  bool is_tokens = false;
  std::string text;              // valid UTF-8; empty for token rows
  std::vector<int32_t> ids;      // token rows, as written
  std::vector<uint8_t> trained;  // per id: 1 = a target
  std::string file;
  int64_t line = 0;  // where it starts, from 1; 0: the whole file
};

// Code 3, and the reader can go on behind the row: what `on_bad_row: skip` counts.
class RowError : public Error {
 public:
  using Error::Error;
};

// What yields the documents of one file, in order.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // Fills the document; false at the end. Throws RowError and stays usable.
  virtual bool next(Document& document) = 0;
  // Bytes of the file that were read so far.
  [[nodiscard]] virtual int64_t bytes_read() const = 0;
  // Sources whose damaged records are known and dropped whatever the user says.
  [[nodiscard]] virtual bool drops_bad_rows() const { return false; }
};

// RowError if the text is not UTF-8, with byte and offset.
void check_utf8(const std::string& text, const std::string& place);

}  // namespace ink
