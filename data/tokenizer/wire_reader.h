// Walks one protobuf message without a schema: (field number, wire type, value) after the other.
// Every length is checked against what is left of the message. Throws code 3 with the byte offset.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ink {

enum class WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct WireField {
  uint32_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t value = 0;      // varint and fixed types
  std::string_view bytes;  // kBytes
};

class WireReader {
 public:
  // offset: where the message lies in its file, for messages.
  WireReader(std::string_view message, const std::string& path, size_t offset = 0)
      : message_(message), path_(path), offset_(offset) {}

  [[nodiscard]] bool next(WireField& field);  // false at the end
  [[nodiscard]] size_t offset() const { return offset_ + at_; }
  // A reader of a kBytes field of this message.
  [[nodiscard]] WireReader inside(const WireField& field) const;

 private:
  uint64_t varint();
  uint64_t fixed(size_t size);
  [[noreturn]] void fail(const std::string& what) const;

  std::string_view message_;
  const std::string& path_;
  size_t offset_;
  size_t at_ = 0;
};

}  // namespace ink
