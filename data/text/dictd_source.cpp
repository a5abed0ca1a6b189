#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "data/text/row_sources.h"

namespace ink {
namespace {

constexpr size_t kMaxDatabaseBytes = size_t{1} << 30;

// dictd's numbers: base 64 with the alphabet of RFC 4648, most significant digit first.
std::optional<uint64_t> base64_number(std::string_view digits) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (digits.empty() || digits.size() > 10) return std::nullopt;
  uint64_t value = 0;
  for (const char c : digits) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    value = value << 6 | digit;
  }
  return value;
}

struct Entry {
  uint64_t offset = 0, length = 0;
  int64_t line = 0;  // of the index
};

class Dictd final : public RowSource {
 public:
  explicit Dictd(const std::string& index_path) : index_path_(index_path) {
    const std::string stem =
        index_path.substr(0, index_path.size() - std::string_view(".index").size());
    const std::string packed = stem + ".dict.dz";
    ByteSource database(std::filesystem::exists(packed) ? packed : stem + ".dict");
    text_ = read_all(database, kMaxDatabaseBytes);
    size_on_disk_ = database.file_bytes_read();
    read_index();
  }

  // Where the documents stand in the database, as a share of its size on disk.
  [[nodiscard]] int64_t bytes_read() const override {
    return entries_.empty()
               ? size_on_disk_
               : size_on_disk_ * static_cast<int64_t>(at_) / static_cast<int64_t>(entries_.size());
  }
  [[nodiscard]] bool drops_bad_rows() const override { return true; }

  bool next(Document& document) override {
    if (at_ == entries_.size()) return false;
    const Entry& entry = entries_[at_++];
    document = {.is_tokens = false,
                .text = text_.substr(entry.offset, entry.length),
                .ids = {},
                .trained = {},
                .file = index_path_,
                .line = entry.line};
    check_utf8(document.text, fmt::format("{}:{}", index_path_, entry.line));
    return true;
  }

 private:
  // "headword TAB offset TAB length"; several headwords may name one entry, 00-database-* are its
  // description.
  void read_index() {
    ByteSource source(index_path_);
    LineReader lines(source);
    for (std::string line; lines.next(line);) {
      if (line.starts_with("00-database") || line.starts_with("00database")) continue;
      entries_.push_back(parse(line, lines.line_number()));
    }
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
      return a.offset != b.offset ? a.offset < b.offset : a.line < b.line;
    });
    const auto same = [](const Entry& a, const Entry& b) { return a.offset == b.offset; };
    entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
  }

  Entry parse(std::string_view line, int64_t number) const {
    const size_t first = line.find('\t');
    const size_t second = first == line.npos ? line.npos : line.find('\t', first + 1);
    if (second != line.npos) {
      const auto offset = base64_number(line.substr(first + 1, second - first - 1));
      const size_t end = std::min(line.find('\t', second + 1), line.size());
      const auto length = base64_number(line.substr(second + 1, end - second - 1));
      if (offset && length && *offset <= text_.size() && *length <= text_.size() - *offset) {
        return {*offset, *length, number};
      }
    }
    throw Error(
        ExitCode::kBadInput, fmt::format("{}:{}", index_path_, number),
        fmt::format(
            "expected headword, offset and length inside the database of {} bytes, got {:?}",
            text_.size(), line.substr(0, 80)));
  }

  std::string index_path_;
  std::string text_;
  int64_t size_on_disk_ = 0;
  std::vector<Entry> entries_;
  size_t at_ = 0;
};

}  // namespace

std::unique_ptr<RowSource> open_dictd(const std::string& index_path) {
  if (!index_path.ends_with(".index")) {
    throw Error(ExitCode::kBadInput, index_path,
                "expected NAME.index of a dictd database, got another name");
  }
  return std::make_unique<Dictd>(index_path);
}

}  // namespace ink
