#include "data/store/npy.h"

#include <fmt/ranges.h>

#include <optional>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr int64_t kMaxExtent = int64_t{1} << 48;

// The header is a Python dictionary with three known keys: a cursor over its text.
class Cursor {
 public:
  Cursor(std::string_view text, const std::string& place) : text_(text), place_(place) {}

  [[noreturn]] void fail(const std::string& expected) const {
    throw Error(ExitCode::kBadInput, place_,
                fmt::format("npy header, byte {}: expected {}", at_, expected));
  }
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool take(char c) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(fmt::format("'{}'", c));
  }
  std::string_view quoted() {
    skip_spaces();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') fail("a quoted word");
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("a closing quote");
    const std::string_view word = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return word;
  }
  bool boolean() {
    skip_spaces();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    fail("True or False");
  }
  int64_t extent() {
    skip_spaces();
    const size_t begin = at_;
    int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + (text_[at_] - '0');
      if (value > kMaxExtent) fail(fmt::format("an extent of at most {}", kMaxExtent));
    }
    if (at_ == begin) fail("an extent");
    return value;
  }
  std::vector<int64_t> shape() {
    std::vector<int64_t> extents;
    expect('(');
    while (!take(')')) {
      if (extents.size() == 8) fail("at most 8 dimensions");
      extents.push_back(extent());
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return extents;
  }
  void expect_end() {
    skip_spaces();
    if (at_ != text_.size()) fail("the end of the header");
  }

 private:
  std::string_view text_;
  const std::string& place_;
  size_t at_ = 0;
};

NpyType type_of(std::string_view name, Cursor& cursor) {
  if (name == "<i4") return NpyType::kInt32;
  if (name == "<i8") return NpyType::kInt64;
  cursor.fail(fmt::format("descr '<i4' or '<i8', got '{}'", name));
}

NpyHeader parse_dictionary(std::string_view text, const std::string& place) {
  Cursor cursor(text, place);
  std::optional<NpyType> type;
  std::optional<bool> fortran;
  std::optional<std::vector<int64_t>> shape;
  cursor.expect('{');
  while (!cursor.take('}')) {
    const std::string_view key = cursor.quoted();
    cursor.expect(':');
    if (key == "descr" && !type) {
      type = type_of(cursor.quoted(), cursor);
    } else if (key == "fortran_order" && !fortran) {
      fortran = cursor.boolean();
    } else if (key == "shape" && !shape) {
      shape = cursor.shape();
    } else {
      cursor.fail(fmt::format("descr, fortran_order and shape once each, got '{}'", key));
    }
    if (!cursor.take(',')) {
      cursor.expect('}');
      break;
    }
  }
  cursor.expect_end();
  if (!type || !fortran || !shape) cursor.fail("the keys descr, fortran_order and shape");
  if (*fortran) cursor.fail("fortran_order False");
  return {.type = *type, .shape = *shape, .data_offset = 0};
}

}  // namespace

NpyHeader parse_npy_header(std::string_view bytes, const std::string& place) {
  const auto bad = [&](const std::string& message) {
    return Error(ExitCode::kBadInput, place, message);
  };
  if (bytes.substr(0, kMagic.size()) != kMagic)
    throw bad("expected a NumPy array (.npy), got other bytes");
  const auto byte = [&](size_t i) {
    return static_cast<size_t>(static_cast<unsigned char>(bytes[i]));
  };
  if (bytes.size() < 8) throw bad("expected an npy version, got the end of the file");
  const size_t major = byte(6), minor = byte(7), width = major == 1 ? 2 : 4;
  if ((major != 1 && major != 2) || minor != 0)
    throw bad(fmt::format("expected npy version 1.0 or 2.0, got {}.{}", major, minor));
  const size_t begin = 8 + width;
  if (bytes.size() < begin) throw bad("expected an npy header, got the end of the file");
  size_t length = 0;
  for (size_t i = 0; i < width; ++i) length |= byte(8 + i) << (8 * i);
  if (length > bytes.size() - begin)
    throw bad(
        fmt::format("expected an npy header of {} bytes, got {}", length, bytes.size() - begin));
  NpyHeader header = parse_dictionary(bytes.substr(begin, length), place);
  header.data_offset = begin + length;
  return header;
}

std::string npy_header(const std::vector<int64_t>& shape) {
  std::string text = fmt::format("{{'descr': '<i8', 'fortran_order': False, 'shape': ({}{}), }}",
                                 fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  constexpr size_t kBefore = 10;  // magic, version, length
  while ((kBefore + text.size() + 1) % 64 != 0) text += ' ';
  text += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {1, 0, static_cast<char>(text.size() & 255), static_cast<char>(text.size() >> 8)};
  return bytes + text;
}

}  // namespace ink
