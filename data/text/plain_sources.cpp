#include <utility>

#include "data/text/row_sources.h"

namespace ink {
namespace {

constexpr size_t kMaxDocumentBytes = size_t{1} << 30;

class WholeFile final : public RowSource {
 public:
  explicit WholeFile(std::unique_ptr<ByteSource> bytes) : bytes_(std::move(bytes)) {}
  [[nodiscard]] int64_t bytes_read() const override { return bytes_->file_bytes_read(); }

  bool next(Document& document) override {
    if (std::exchange(done_, true)) return false;
    document = {.is_tokens = false,
                .text = read_all(*bytes_, kMaxDocumentBytes),
                .ids = {},
                .trained = {},
                .file = bytes_->path(),
                .line = 0};
    check_utf8(document.text, bytes_->path());
    return true;
  }

 private:
  std::unique_ptr<ByteSource> bytes_;
  bool done_ = false;
};

class Lines final : public RowSource {
 public:
  explicit Lines(std::unique_ptr<ByteSource> bytes) : bytes_(std::move(bytes)), lines_(*bytes_) {}
  [[nodiscard]] int64_t bytes_read() const override { return bytes_->file_bytes_read(); }

  bool next(Document& document) override {
    document = {};
    while (lines_.next(document.text)) {
      if (document.text.empty()) continue;
      document.file = bytes_->path();
      document.line = lines_.line_number();
      check_utf8(document.text, fmt::format("{}:{}", document.file, document.line));
      return true;
    }
    return false;
  }

 private:
  std::unique_ptr<ByteSource> bytes_;
  LineReader lines_;
};

// ESC [ parameters letter, and ESC with one other character.
std::string without_ansi(const std::string& line) {
  std::string out;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\x1B') {
      out += line[i];
      continue;
    }
    if (++i >= line.size() || line[i] != '[') continue;
    while (++i < line.size() && (line[i] < '@' || line[i] > '~')) {
    }
  }
  return out;
}

class Fortunes final : public RowSource {
 public:
  explicit Fortunes(std::unique_ptr<ByteSource> bytes)
      : bytes_(std::move(bytes)), lines_(*bytes_) {}
  [[nodiscard]] int64_t bytes_read() const override { return bytes_->file_bytes_read(); }

  bool next(Document& document) override {
    document = {};
    std::string line;
    bool more = true;
    while ((more = lines_.next(line))) {
      if (line == "%") {
        if (!document.text.empty()) break;
        continue;
      }
      if (document.text.empty()) document.line = lines_.line_number();
      document.text += without_ansi(line) + "\n";
    }
    if (document.text.empty()) return false;
    document.file = bytes_->path();
    check_utf8(document.text, fmt::format("{}:{}", document.file, document.line));
    return true;
  }

 private:
  std::unique_ptr<ByteSource> bytes_;
  LineReader lines_;
};

}  // namespace

std::unique_ptr<RowSource> open_whole_file(std::unique_ptr<ByteSource> bytes) {
  return std::make_unique<WholeFile>(std::move(bytes));
}

std::unique_ptr<RowSource> open_lines(std::unique_ptr<ByteSource> bytes) {
  return std::make_unique<Lines>(std::move(bytes));
}

std::unique_ptr<RowSource> open_fortunes(std::unique_ptr<ByteSource> bytes) {
  return std::make_unique<Fortunes>(std::move(bytes));
}

}  // namespace ink
