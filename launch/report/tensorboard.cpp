#include "launch/report/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>

namespace ink {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // Castagnoli, bits reversed
constexpr uint32_t kMaskDelta = 0xa282ead8;

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

// The four forms of protobuf's wire format that an Event needs.
enum class Wire : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}
std::string key(int field, Wire wire) {
  return varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire));
}
std::string integer_field(int field, int64_t value) {
  return key(field, Wire::kVarint) + varint(static_cast<uint64_t>(value));
}
std::string double_field(int field, double value) {
  return key(field, Wire::kFixed64) + little_endian(std::bit_cast<uint64_t>(value));
}
std::string float_field(int field, float value) {
  return key(field, Wire::kFixed32) + little_endian(std::bit_cast<uint32_t>(value));
}
std::string bytes_field(int field, std::string_view bytes) {
  return key(field, Wire::kBytes) + varint(bytes.size()) + std::string(bytes);
}

double wall_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// Event: wall_time 1, step 2, file_version 3, summary 5, session_log 7.
std::string event(int64_t step, const std::string& content) {
  return double_field(1, wall_time()) + integer_field(2, step) + content;
}
// Summary: value 1.
std::string summary_event(int64_t step, const std::string& value) {
  return event(step, bytes_field(5, bytes_field(1, value)));
}

std::filesystem::path new_file_name(const std::filesystem::path& directory) {
  make_directory(directory);
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host = {"localhost"};
  return directory /
         fmt::format("events.out.tfevents.{}.{}", static_cast<int64_t>(wall_time()), host.data());
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~uint32_t{0};
  for (const char c : bytes)
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + kMaskDelta; }

TensorBoardFile::TensorBoardFile(const std::filesystem::path& directory)
    : file_(new_file_name(directory)) {
  record(double_field(1, wall_time()) + bytes_field(3, "brain.Event:2"));
}

void TensorBoardFile::scalar(std::string_view tag, int64_t step, double value) {
  // Value: tag 1, simple_value 2.
  record(summary_event(step, bytes_field(1, tag) + float_field(2, static_cast<float>(value))));
}

void TensorBoardFile::text(std::string_view tag, int64_t step, std::string_view text) {
  constexpr int64_t kString = 7;  // DataType DT_STRING
  // TensorProto: dtype 1, tensor_shape 2 (empty: a scalar), string_val 8.
  const std::string tensor = integer_field(1, kString) + bytes_field(2, "") + bytes_field(8, text);
  // SummaryMetadata: plugin_data 1 {plugin_name 1}. Value: tag 1, tensor 8, metadata 9.
  const std::string metadata = bytes_field(1, bytes_field(1, "text"));
  record(
      summary_event(step, bytes_field(1, tag) + bytes_field(8, tensor) + bytes_field(9, metadata)));
}

void TensorBoardFile::restart_at(int64_t step) {
  constexpr int64_t kStart = 1;  // SessionLog.status START
  record(event(step, bytes_field(7, integer_field(1, kStart))));
}

void TensorBoardFile::record(std::string_view payload) {
  const std::string length = little_endian(static_cast<uint64_t>(payload.size()));
  std::string bytes = length + little_endian(masked_crc32c(length));
  bytes += payload;
  file_.write(bytes + little_endian(masked_crc32c(payload)));
}

}  // namespace ink
