#include "data/tokenizer/wire_reader.h"

#include "engine/core/error.h"

namespace ink {

void WireReader::fail(const std::string& what) const {
  throw Error(ExitCode::kBadInput, path_,
              fmt::format("expected a protobuf message, {} at byte {}", what, offset()));
}

uint64_t WireReader::varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at_ >= message_.size()) fail("the data end inside a number");
    const auto byte = static_cast<uint8_t>(message_[at_++]);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  fail("a number is longer than ten bytes");
}

uint64_t WireReader::fixed(size_t size) {
  if (message_.size() - at_ < size) fail("the data end inside a number");
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    value |= uint64_t{static_cast<uint8_t>(message_[at_ + i])} << (8 * i);
  }
  at_ += size;
  return value;
}

bool WireReader::next(WireField& field) {
  if (at_ == message_.size()) return false;
  const uint64_t key = varint();
  if (key >> 32 != 0 || key >> 3 == 0) fail(fmt::format("the field key {} is not valid", key));
  field = {.number = static_cast<uint32_t>(key >> 3),
           .type = WireType::kVarint,
           .value = 0,
           .bytes = {}};
  switch (key & 7) {
    case 0:
      field.value = varint();
      break;
    case 1:
      field.type = WireType::kFixed64, field.value = fixed(8);
      break;
    case 5:
      field.type = WireType::kFixed32, field.value = fixed(4);
      break;
    case 2: {
      field.type = WireType::kBytes;
      const uint64_t size = varint();
      if (size > message_.size() - at_) {
        fail(fmt::format("field {} has {} bytes where {} are left", field.number, size,
                         message_.size() - at_));
      }
      field.bytes = message_.substr(at_, size);
      at_ += size;
      break;
    }
    default:
      fail(fmt::format("wire type {} is not supported", key & 7));
  }
  return true;
}

WireReader WireReader::inside(const WireField& field) const {
  return {field.bytes, path_, offset() - field.bytes.size()};
}

}  // namespace ink
