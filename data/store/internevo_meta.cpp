#include "data/store/internevo_meta.h"

#include <algorithm>
#include <vector>

#include "data/store/internevo.h"
#include "data/store/npy.h"
#include "engine/io/atomic_file.h"

namespace ink {
namespace {

constexpr size_t kBlock = size_t{1} << 20;

// Hands out the lines of a file, each with its end; the last may lack it.
class Lines {
 public:
  explicit Lines(const std::filesystem::path& path) : file_(File::open(path)) {}

  // False at the end of the file.
  bool next(std::string& line) {
    size_t end = text_.find('\n', at_);
    while (end == std::string::npos && read_ < file_.size()) {
      text_.erase(0, std::exchange(at_, 0));
      const size_t before = text_.size();
      text_.resize(before + std::min<uint64_t>(kBlock, file_.size() - read_));
      file_.read(read_, std::as_writable_bytes(std::span(text_).subspan(before)));
      read_ += text_.size() - before;
      end = text_.find('\n', before);
    }
    const size_t stop = end == std::string::npos ? text_.size() : end + 1;
    line.assign(text_, at_, stop - at_);
    at_ = stop;
    return !line.empty();
  }
  [[nodiscard]] const std::string& place() const { return file_.place(); }

 private:
  File file_;
  std::string text_;
  size_t at_ = 0;
  uint64_t read_ = 0;
};

}  // namespace

ScannedMeta write_internevo_meta(const std::filesystem::path& bin) {
  Lines lines(bin);
  std::vector<int64_t> cells;
  ScannedMeta scanned;
  int64_t offset = 0;
  for (std::string line; lines.next(line);) {
    const TokenDocument document =
        parse_internevo_line(line, fmt::format("{}:{}", lines.place(), scanned.samples + 1));
    const auto tokens = static_cast<int64_t>(document.ids.size());
    cells.insert(cells.end(), {offset, tokens});
    offset += static_cast<int64_t>(line.size());
    scanned.tokens += tokens;
    ++scanned.samples;
  }
  AtomicFile file(meta_of(bin));
  file.writer().write(npy_header({scanned.samples, 2}));
  file.writer().write(std::as_bytes(std::span(cells)));
  file.commit();
  return scanned;
}

}  // namespace ink
