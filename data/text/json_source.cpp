#include <algorithm>
#include <utility>

#include "data/text/row_parser.h"
#include "data/text/row_sources.h"

namespace ink {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr size_t kMaxRowBytes = size_t{256} << 20;

class JsonLines final : public RowSource {
 public:
  explicit JsonLines(std::unique_ptr<ByteSource> bytes)
      : bytes_(std::move(bytes)), lines_(*bytes_) {}
  [[nodiscard]] int64_t bytes_read() const override { return bytes_->file_bytes_read(); }

  bool next(Document& document) override {
    while (lines_.next(line_)) {
      if (line_.find_first_not_of(kSpace) == std::string::npos) continue;
      document.file = bytes_->path();
      document.line = lines_.line_number();
      parse_row(line_, fmt::format("{}:{}", document.file, document.line), document);
      return true;
    }
    return false;
  }

 private:
  std::unique_ptr<ByteSource> bytes_;
  LineReader lines_;
  std::string line_;
};

// Cuts the elements of a top-level array out of the stream by counting brackets outside of strings;
// each element is then parsed as a row.
class JsonArray final : public RowSource {
 public:
  // The source starts with white space and `[`.
  explicit JsonArray(std::unique_ptr<ByteSource> bytes) : bytes_(std::move(bytes)) {
    chunk_ = bytes_->next();
    const size_t bracket = chunk_.find('[');
    line_ += std::count(chunk_.begin(), chunk_.begin() + bracket, '\n');
    chunk_.remove_prefix(bracket + 1);
  }
  [[nodiscard]] int64_t bytes_read() const override { return bytes_->file_bytes_read(); }

  bool next(Document& document) override {
    std::string row;
    while (take_element(row)) {
      if (row.find_first_not_of(kSpace) == std::string::npos) continue;
      document.file = bytes_->path();
      document.line = row_line_;
      parse_row(row, fmt::format("{}:{}", document.file, document.line), document);
      return true;
    }
    return false;
  }

 private:
  // The text up to the next comma or closing bracket of the array; false behind its end.
  bool take_element(std::string& row) {
    row.clear();
    while (depth_ >= 0) {
      if (chunk_.empty() && (chunk_ = bytes_->next()).empty()) {
        throw Error(ExitCode::kBadInput, fmt::format("{}:{}", bytes_->path(), line_),
                    "expected ] at the end of the array, the file ends before it");
      }
      const char c = chunk_.front();
      chunk_.remove_prefix(1);
      line_ += c == '\n';
      if (step(c)) {
        if (depth_ >= 0 || !row.empty()) return true;
        continue;
      }
      if (row.empty()) {
        if (kSpace.find(c) != std::string_view::npos) continue;
        row_line_ = line_;
      }
      row += c;
      if (row.size() > kMaxRowBytes) {
        throw Error(ExitCode::kBadInput, fmt::format("{}:{}", bytes_->path(), row_line_),
                    fmt::format("expected rows of at most {} bytes, got more", kMaxRowBytes));
      }
    }
    return false;
  }

  // Follows strings and brackets; true where an element ends. Depth 1 is between the rows.
  bool step(char c) {
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
      return false;
    }
    if (c == '"') in_string_ = true;
    if (c == '[' || c == '{') ++depth_;
    if (c == ']' || c == '}') --depth_;
    if (depth_ == 0 && c == ']') {
      depth_ = -1;
      return true;
    }
    return depth_ == 1 && c == ',';
  }

  std::unique_ptr<ByteSource> bytes_;
  std::string_view chunk_;
  int depth_ = 1;  // of brackets; -1: the array has ended
  bool in_string_ = false, escaped_ = false;
  int64_t line_ = 1, row_line_ = 1;
};

}  // namespace

std::unique_ptr<RowSource> open_json_rows(std::unique_ptr<ByteSource> bytes) {
  const std::string_view start = bytes->peek();
  const size_t first = start.find_first_not_of(kSpace);
  if (first != std::string_view::npos && start[first] == '[') {
    return std::make_unique<JsonArray>(std::move(bytes));
  }
  return std::make_unique<JsonLines>(std::move(bytes));
}

}  // namespace ink
