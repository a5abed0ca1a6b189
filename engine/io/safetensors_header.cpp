#include "engine/io/safetensors_header.h"

#include <cstdint>
#include <limits>
#include <utility>

namespace ink {
namespace {

using nlohmann::json;
constexpr size_t kMaxRank = 16;

// Where the parser stands: before the header object, between tensors, in a tensor's object, in one
// of its lists, or in __metadata__.
enum class Level { kOutside, kTensors, kFields, kList, kMetadata };

class HeaderEvents {
 public:
  HeaderEvents(const std::string& place, std::vector<SafetensorsEntry>& entries,
               std::map<std::string, std::string>& metadata)
      : place_(place), entries_(entries), metadata_(metadata) {}

  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("a boolean"); }
  bool number_integer(int64_t value) { unexpected(fmt::format("{}", value)); }
  bool number_float(double, const std::string& text) { unexpected(text); }
  bool binary(json::binary_t&) { unexpected("binary data"); }
  bool number_unsigned(uint64_t value) {
    if (level_ != Level::kList) unexpected(fmt::format("{}", value));
    if (field_ == "shape") {
      if (value > uint64_t{std::numeric_limits<int64_t>::max()})
        unexpected(fmt::format("{}", value));
      if (entry_.shape.size() == kMaxRank)
        fail(fmt::format("expected at most {} dimensions, got more", kMaxRank));
      entry_.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (offsets_ == 2) fail("expected two data_offsets, got more");
    (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    return true;
  }
  bool string(std::string& value) {
    if (level_ == Level::kMetadata) {
      if (!metadata_.emplace(field_, value).second)
        fail(fmt::format("key {} is given twice", quote_name(field_)));
      return true;
    }
    if (level_ != Level::kFields || field_ != "dtype") unexpected("string " + quote_name(value));
    entry_.dtype = find_file_dtype(value);
    if (!entry_.dtype) fail(fmt::format("dtype {} is not supported", quote_name(value)));
    return true;
  }

  bool start_object(size_t) {
    switch (level_) {
      case Level::kOutside:
        level_ = Level::kTensors;
        return true;
      case Level::kTensors:
        level_ = in_metadata_ ? Level::kMetadata : Level::kFields;
        return true;
      default:
        unexpected("an object");
    }
  }
  bool key(std::string& name) {
    if (level_ == Level::kTensors) return start_entry(name);
    field_ = name;
    if (level_ == Level::kMetadata) return true;
    bool& seen = name == "dtype"   ? seen_.dtype
                 : name == "shape" ? seen_.shape
                 : name == "data_offsets"
                     ? seen_.offsets
                     : fail(fmt::format("expected dtype, shape and data_offsets, got key {}",
                                        quote_name(name)));
    if (seen) fail(fmt::format("key {} is given twice", quote_name(name)));
    seen = true;
    return true;
  }
  bool end_object() {
    if (level_ == Level::kFields) finish_entry();
    level_ = level_ == Level::kTensors ? Level::kOutside : Level::kTensors;
    return true;
  }
  bool start_array(size_t) {
    if (level_ != Level::kFields || field_ == "dtype") unexpected("a list");
    level_ = Level::kList;
    return true;
  }
  bool end_array() {
    level_ = Level::kFields;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const json::exception& cause) {
    throw Error(ExitCode::kBadInput, place_,
                fmt::format("expected a JSON header, got an error at its byte {}: {}", position,
                            quote_name(cause.what())));
  }

 private:
  struct Seen {
    bool dtype = false, shape = false, offsets = false;
  };

  bool start_entry(std::string& name) {
    in_metadata_ = name == "__metadata__";
    if (in_metadata_ && std::exchange(metadata_seen_, true))
      fail("expected __metadata__ once, got it twice");
    entry_ = {};
    entry_.name = std::move(name);
    seen_ = {};
    offsets_ = 0;
    return true;
  }
  void finish_entry() {
    if (!seen_.dtype || !seen_.shape || !seen_.offsets || offsets_ != 2) {
      fail("expected dtype, shape and two data_offsets, got less");
    }
    entries_.push_back(std::move(entry_));
  }
  [[noreturn]] bool& fail(const std::string& message) const {
    const bool named = level_ != Level::kOutside && !entry_.name.empty();
    throw Error(ExitCode::kBadInput,
                named ? fmt::format("{}: tensor {}", place_, quote_name(entry_.name)) : place_,
                message);
  }
  [[noreturn]] void unexpected(const std::string& got) const {
    switch (level_) {
      case Level::kOutside:
        fail("expected a header object, got " + got);
      case Level::kTensors:
        fail("expected an object that describes the tensor, got " + got);
      case Level::kMetadata:
        fail(fmt::format("expected a string for {}, got {}", quote_name(field_), got));
      case Level::kList:
        fail(fmt::format("expected unsigned integers in {}, got {}", field_, got));
      case Level::kFields:
        fail(fmt::format("expected {} for {}, got {}", field_ == "dtype" ? "a string" : "a list",
                         field_, got));
    }
    fail(got);
  }

  const std::string& place_;
  std::vector<SafetensorsEntry>& entries_;
  std::map<std::string, std::string>& metadata_;
  Level level_ = Level::kOutside;
  bool in_metadata_ = false, metadata_seen_ = false;
  std::string field_;
  SafetensorsEntry entry_;
  Seen seen_;
  int offsets_ = 0;
};

}  // namespace

void parse_safetensors_header(std::string_view header, const std::string& place,
                              std::vector<SafetensorsEntry>& entries,
                              std::map<std::string, std::string>& metadata) {
  HeaderEvents events(place, entries, metadata);
  json::sax_parse(header.begin(), header.end(), &events);
}

}  // namespace ink
