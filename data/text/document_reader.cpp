#include "data/text/document_reader.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "data/text/row_sources.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::pair<std::string_view, TextFormat>, 6> kFormats{{
    {"auto", TextFormat::kAuto},
    {"txt", TextFormat::kTxt},
    {"lines", TextFormat::kLines},
    {"jsonl", TextFormat::kJsonl},
    {"dictd", TextFormat::kDictd},
    {"fortune", TextFormat::kFortune},
}};

bool is_dictd_index(const std::string& path) {
  if (!path.ends_with(".index")) return false;
  std::error_code status;
  const std::string stem = path.substr(0, path.size() - std::string_view(".index").size());
  return fs::exists(stem + ".dict.dz", status) || fs::exists(stem + ".dict", status);
}

std::string lower_start(std::string_view text) {
  std::string start(text.substr(0, 64));
  std::transform(start.begin(), start.end(), start.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return start;
}

void refuse_what_is_no_data(std::string_view start, const std::string& path) {
  const std::string head = lower_start(start);
  if (head.starts_with("version https://git-lfs")) {
    throw Error(ExitCode::kBadInput, path, "expected data, got a Git LFS pointer",
                "fetch it: git lfs pull");
  }
  if (head.starts_with("<!doctype html") || head.starts_with("<html")) {
    throw Error(ExitCode::kBadInput, path, "expected data, got an HTML page",
                "download the file itself, or read HTML as text with format txt");
  }
}

TextFormat format_by_content(std::string_view start, const std::string& path) {
  refuse_what_is_no_data(start, path);
  if (start.starts_with("\xEF\xBB\xBF")) start.remove_prefix(3);
  const size_t first = start.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return TextFormat::kTxt;
  // A text may begin with a bracket; a row or a list of rows goes on with a quote, a bracket or its
  // end.
  const size_t second = start.find_first_not_of(" \t\r\n", first + 1);
  const char follows = second == std::string_view::npos ? '\0' : start[second];
  if (start[first] == '{' && (follows == '"' || follows == '}')) return TextFormat::kJsonl;
  if (start[first] == '[' && (follows == '{' || follows == ']')) return TextFormat::kJsonl;
  if (start.find("\n%\n") != std::string_view::npos || start.starts_with("%\n"))
    return TextFormat::kFortune;
  return TextFormat::kTxt;
}

// format: kAuto becomes what the file is.
std::unique_ptr<RowSource> open_source(const std::string& path, TextFormat& format) {
  const bool by_content = format == TextFormat::kAuto;
  if (by_content && is_dictd_index(path)) format = TextFormat::kDictd;
  if (format == TextFormat::kDictd) return open_dictd(path);
  auto bytes = std::make_unique<ByteSource>(path);
  if (by_content) format = format_by_content(bytes->peek(), path);
  switch (format) {
    case TextFormat::kJsonl:
      refuse_what_is_no_data(bytes->peek(), path);
      return open_json_rows(std::move(bytes));
    case TextFormat::kLines:
      return open_lines(std::move(bytes));
    case TextFormat::kFortune:
      return open_fortunes(std::move(bytes));
    default:
      return open_whole_file(std::move(bytes));
  }
}

// A dictd database lies beside the index that names it.
int64_t size_on_disk(const std::string& path) {
  std::error_code status;
  std::string file = path;
  if (is_dictd_index(path)) {
    const std::string stem = path.substr(0, path.size() - std::string_view(".index").size());
    file = fs::exists(stem + ".dict.dz", status) ? stem + ".dict.dz" : stem + ".dict";
  }
  const auto size = fs::file_size(file, status);
  return status ? 0 : static_cast<int64_t>(size);
}

}  // namespace

TextFormat parse_text_format(std::string_view name) {
  std::string known;
  for (const auto& [spelling, format] : kFormats) {
    if (spelling == name) return format;
    known += (known.empty() ? "" : ", ") + std::string(spelling);
  }
  throw Error(ExitCode::kConfig, "format", fmt::format("expected one of {}, got {}", known, name));
}

std::string_view name_of(TextFormat format) {
  for (const auto& [spelling, known] : kFormats)
    if (known == format) return spelling;
  throw InternalError("unknown text format");
}

DocumentReader::DocumentReader(std::vector<std::string> files, ReaderOptions options)
    : files_(std::move(files)), options_(options) {
  for (const std::string& file : files_) bytes_total_ += size_on_disk(file);
}

DocumentReader::~DocumentReader() = default;

int64_t DocumentReader::bytes_read() const {
  return bytes_done_ + (source_ != nullptr ? source_->bytes_read() : 0);
}

bool DocumentReader::next(Document& document) {
  while (source_ != nullptr || next_file_ < files_.size()) {
    if (source_ == nullptr) {
      format_ = options_.format;
      source_ = open_source(files_[next_file_++], format_);
    }
    try {
      if (source_->next(document)) return true;
    } catch (const RowError& row) {
      if (options_.on_bad_row == OnBadRow::kError && !source_->drops_bad_rows()) throw;
      if (bad_rows_++ == 0) first_bad_row_ = row.line();
      continue;
    }
    bytes_done_ += source_->bytes_read();
    source_.reset();
  }
  return false;
}

}  // namespace ink
