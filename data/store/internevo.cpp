#include "data/store/internevo.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "data/store/npy.h"
#include "engine/core/error.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxMetaBytes = uint64_t{1} << 36;

[[noreturn]] void bad(const std::string& place, const std::string& message,
                      const std::string& hint = {}) {
  throw Error(ExitCode::kBadInput, place, message, hint);
}

template <class T>
int64_t cell(std::string_view data, size_t index) {
  T value;
  std::memcpy(&value, data.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Accepts `{"tokens": [integers]}` and nothing else, as JSON events.
class SampleEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit SampleEvents(TokenDocument& out) : out_(out) {}
  std::string problem;

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_float(double, const std::string& text) override { return refuse(text); }
  bool string(std::string&) override { return refuse("a string"); }
  bool binary(nlohmann::json::binary_t&) override { return refuse("bytes"); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override {
    return value <= INT32_MAX ? add(static_cast<int64_t>(value)) : refuse(std::to_string(value));
  }
  bool start_object(size_t) override { return depth_++ == 0 || refuse("an object"); }
  bool key(std::string& name) override {
    if (name != "tokens" || keys_++ > 0) return refuse("key \"" + name + "\"");
    return true;
  }
  bool end_object() override { return keys_ == 1 || refuse("no key \"tokens\""); }
  bool start_array(size_t) override { return (depth_++ == 1 && keys_ == 1) || refuse("an array"); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t at, const std::string&, const nlohmann::json::exception&) override {
    problem = fmt::format("JSON is broken at byte {} of the line", at);
    return false;
  }

 private:
  bool refuse(const std::string& found) {
    problem = fmt::format("expected {{\"tokens\": [integers]}}, got {}", found);
    return false;
  }
  // The sign is the mask: -w is input w that is no target, and neither is 0.
  bool add(int64_t value) {
    if (depth_ != 2 || value < -INT32_MAX) return refuse(std::to_string(value));
    out_.ids.push_back(static_cast<int32_t>(value < 0 ? -value : value));
    out_.untrained.push_back(value <= 0);
    return true;
  }

  TokenDocument& out_;
  int depth_ = 0, keys_ = 0;
};

// Files of a folder in order, then its sub-folders in order.
void walk(const fs::path& folder, int32_t type_id, std::vector<InternEvoFile>& out) {
  std::vector<fs::path> files, folders;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory()) {
      folders.push_back(entry.path());
    } else if (entry.path().extension() == ".bin") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::sort(folders.begin(), folders.end());
  for (const fs::path& file : files) out.push_back({file, type_id});
  for (const fs::path& sub : folders) walk(sub, type_id, out);
}

InternEvoFolder walk_root(const fs::path& root) {
  InternEvoFolder folder;
  std::vector<fs::path> types;
  bool flat = false;
  for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
    if (entry.is_directory()) types.push_back(entry.path());
    flat |= !entry.is_directory() && entry.path().extension() == ".bin";
  }
  std::sort(types.begin(), types.end());
  if (flat) {
    if (!types.empty())
      bad(root.string(), "expected .bin files either in the folder or in sub-folders, got both");
    walk(root, 0, folder.files);
    folder.types = {""};
    return folder;
  }
  for (const fs::path& type : types) {
    walk(type, static_cast<int32_t>(folder.types.size()), folder.files);
    folder.types.push_back(type.filename().string());
  }
  return folder;
}

InternEvoFolder list_files(const fs::path& root) {
  try {
    if (!fs::is_directory(root)) return {.types = {""}, .files = {{root, 0}}};
    return walk_root(root);
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::kIo, root.string(), error.code().message());
  }
}

}  // namespace

fs::path meta_of(const fs::path& bin) { return bin.string() + ".meta"; }

std::vector<MetaRow> parse_internevo_meta(std::string_view bytes, const std::string& place,
                                          int64_t bin_size) {
  const NpyHeader header = parse_npy_header(bytes, place);
  if (header.shape.size() != 2 || header.shape[1] != 2)
    bad(place, fmt::format("expected shape (N, 2), got ({})", fmt::join(header.shape, ", ")));
  const std::string_view data = bytes.substr(header.data_offset);
  const auto count = static_cast<size_t>(header.shape[0]);
  const size_t width = header.type == NpyType::kInt32 ? 4 : 8;
  if (data.size() != count * 2 * width)
    bad(place, fmt::format("expected {} bytes of data, got {}", count * 2 * width, data.size()));

  std::vector<MetaRow> rows(count);
  int64_t previous = -1;
  for (size_t i = 0; i < count; ++i) {
    const auto value = [&](size_t k) {
      return width == 4 ? cell<int32_t>(data, k) : cell<int64_t>(data, k);
    };
    rows[i] = {.offset = value(2 * i), .tokens = value(2 * i + 1)};
    if (rows[i].offset <= previous || rows[i].offset >= bin_size)
      bad(place,
          fmt::format("row {}, column 0: expected an offset in {}..{}, got {}", i, previous + 1,
                      bin_size - 1, rows[i].offset),
          width == 4 && bin_size > INT32_MAX
              ? "32-bit offsets end at 2 GiB; write the meta as int64"
              : "");
    if (rows[i].tokens <= 0 || rows[i].tokens >= bin_size)
      bad(place, fmt::format("row {}, column 1: expected a token count in 1..{}, got {}", i,
                             bin_size - 1, rows[i].tokens));
    previous = rows[i].offset;
  }
  if (count > 0 && rows[0].offset != 0)
    bad(place, fmt::format("row 0, column 0: expected offset 0, got {}", rows[0].offset));
  return rows;
}

TokenDocument parse_internevo_line(std::string_view line, const std::string& place) {
  TokenDocument document;
  SampleEvents events(document);
  if (line.empty() || line.find('\n') != line.size() - 1)
    bad(place, "expected one line that ends where the next one begins");
  if (!nlohmann::json::sax_parse(line, &events)) bad(place, events.problem);
  return document;
}

InternEvoFolder list_internevo(const fs::path& root, MetaFiles meta) {
  InternEvoFolder folder = list_files(root);
  if (folder.files.empty()) bad(root.string(), "expected .bin files, got none");
  for (const InternEvoFile& file : folder.files)
    if (meta == MetaFiles::kRequired && !fs::exists(meta_of(file.path)))
      bad(file.path.string(),
          fmt::format("expected {} beside it", meta_of(file.path.filename()).string()),
          "inkstone data meta makes it out of the .bin");
  return folder;
}

bool is_internevo(const fs::path& root) {
  std::error_code failed;
  if (fs::is_regular_file(root, failed)) return root.extension() == ".bin";
  if (!fs::is_directory(root, failed)) return false;
  for (fs::recursive_directory_iterator entry(root, failed), end; !failed && entry != end;
       entry.increment(failed))
    if (entry->path().extension() == ".bin") return true;
  return false;
}

InternEvoReader::InternEvoReader(const InternEvoFile& file)
    : type_id_(file.type_id), bin_(File::open(file.path)) {
  const fs::path meta = meta_of(file.path);
  rows_ = parse_internevo_meta(read_text(meta, kMaxMetaBytes), meta.string(),
                               static_cast<int64_t>(bin_.size()));
}

TokenDocument InternEvoReader::read(int64_t row) const {
  const auto index = static_cast<size_t>(row);
  CHECK(row >= 0 && row < size(), "row {} of {}", row, size());
  const auto begin = static_cast<uint64_t>(rows_[index].offset);
  const uint64_t end =
      index + 1 < rows_.size() ? static_cast<uint64_t>(rows_[index + 1].offset) : bin_.size();
  std::string line(end - begin, '\0');
  bin_.read(begin, std::as_writable_bytes(std::span(line)));

  const std::string place = fmt::format("{}:{}", bin_.place(), row + 1);
  TokenDocument document = parse_internevo_line(line, place);
  document.source = type_id_;
  document.origin = row + 1;
  const auto expected = static_cast<size_t>(rows_[index].tokens);
  if (document.ids.size() != expected)
    bad(place,
        fmt::format("expected {} tokens as in the meta, got {}", expected, document.ids.size()));
  return document;
}

}  // namespace ink
