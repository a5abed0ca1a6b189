#include "engine/io/safetensors_reader.h"

#include <algorithm>
#include <array>
#include <bit>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr uint64_t kLengthBytes = 8;
static_assert(std::endian::native == std::endian::little, "the format is little-endian");

// Only asked once the file has turned out not to be safetensors: a valid length may begin with the
// same bytes.
void refuse_pickle(const File& file) {
  std::array<unsigned char, 4> head{};
  if (file.size() < head.size()) return;
  file.read(0, std::as_writable_bytes(std::span(head)));
  const bool zip = head == std::array<unsigned char, 4>{'P', 'K', 3, 4};
  const bool pickle = head[0] == 0x80 && head[1] >= 2 && head[1] <= 5;
  if (zip || pickle) {
    throw Error(ExitCode::kBadInput, file.place(),
                fmt::format("expected a safetensors file, got a {}: pickle refused",
                            zip ? "zip archive" : "pickle"),
                "convert the weights to safetensors with a tool you trust");
  }
}

std::string read_header(const File& file) {
  if (file.size() < kLengthBytes) {
    throw Error(ExitCode::kBadInput, file.place(),
                fmt::format("expected a safetensors file of at least {} bytes, got {}",
                            kLengthBytes, file.size()));
  }
  uint64_t length = 0;
  file.read(0, std::as_writable_bytes(std::span(&length, 1)));
  const uint64_t limit = std::min(kMaxSafetensorsHeader, file.size() - kLengthBytes);
  char first = 0;
  if (length > 0 && length <= limit)
    file.read(kLengthBytes, std::as_writable_bytes(std::span(&first, 1)));
  if (first == '{') {
    std::string header(length, '\0');
    file.read(kLengthBytes, std::as_writable_bytes(std::span(header)));
    return header;
  }
  refuse_pickle(file);
  if (length == 0 || length > limit) {
    throw Error(ExitCode::kBadInput, file.place(),
                fmt::format("expected a header length from 1 to {}, got {}", limit, length));
  }
  throw Error(ExitCode::kBadInput, file.place(),
              fmt::format("expected a header that begins with '{{', got byte 0x{:02x}",
                          static_cast<unsigned char>(first)));
}

}  // namespace

SafetensorsReader::SafetensorsReader(File file) : file_(std::move(file)) {
  const std::string header = read_header(file_);
  data_start_ = kLengthBytes + header.size();
  table_ = SafetensorsTable::parse(header, file_.size() - data_start_, file_.place());
}

void SafetensorsReader::read(const SafetensorsEntry& entry, uint64_t offset,
                             std::span<std::byte> out) const {
  CHECK(offset <= entry.bytes() && out.size() <= entry.bytes() - offset,
        "tensor {} has {} bytes, asked for {} at {}", entry.name, entry.bytes(), out.size(),
        offset);
  file_.read(data_start_ + entry.begin + offset, out);
}

}  // namespace ink
