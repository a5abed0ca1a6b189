// Event files read back by a decoder of their own, which knows nothing of the writer.
#include "launch/report/tensorboard.h"

#include <bit>
#include <cstring>
#include <map>

#include "tests/report/rows.h"

namespace ink {
namespace {

template <class T>
T read_raw(std::string_view bytes, size_t at) {
  T value{};
  if (at + sizeof(T) > bytes.size()) throw InternalError("the file ends early");
  std::memcpy(&value, bytes.data() + at, sizeof(T));  // tests run on little-endian machines
  return value;
}

// Field number -> its values; varints as text of their number, the rest as raw bytes.
std::multimap<int, std::string> fields_of(std::string_view message) {
  std::multimap<int, std::string> fields;
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = read_raw<uint8_t>(message, at++);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const uint64_t key = varint();
    const int field = static_cast<int>(key >> 3);
    if ((key & 7) == 0) {
      fields.emplace(field, std::to_string(varint()));
      continue;
    }
    const size_t size = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : varint();
    if (at + size > message.size()) throw InternalError("a field ends early");
    fields.emplace(field, message.substr(at, size));
    at += size;
  }
  return fields;
}

std::string only(const std::multimap<int, std::string>& fields, int field) {
  EXPECT_EQ(fields.count(field), 1U) << "field " << field;
  const auto found = fields.find(field);
  return found == fields.end() ? "" : found->second;
}

// The polynomial division bit by bit, without a table.
uint32_t slow_masked_crc(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = (crc & 1) != 0 ? crc >> 1 ^ 0x82f63b78U : crc >> 1;
  }
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

std::vector<std::multimap<int, std::string>> events_of(const std::filesystem::path& path) {
  const std::string file = file_text(path);
  std::vector<std::multimap<int, std::string>> events;
  for (size_t at = 0; at < file.size();) {
    const auto length = read_raw<uint64_t>(file, at);
    EXPECT_EQ(read_raw<uint32_t>(file, at + 8),
              slow_masked_crc(std::string_view(file).substr(at, 8)));
    const std::string_view payload = std::string_view(file).substr(at + 12, length);
    EXPECT_EQ(read_raw<uint32_t>(file, at + 12 + length), slow_masked_crc(payload));
    events.push_back(fields_of(payload));
    at += 16 + length;
  }
  return events;
}

// Check values of RFC 3720, B.4, and of the algorithm's catalogue entry.
TEST(Crc32c, HasThePublishedValues) {
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
}

TEST(TensorBoardFile, IsReadBack) {
  const TemporaryFolder folder;
  TensorBoardFile board(folder / "tb");
  board.scalar("train/loss", 300, 2.5);
  board.text("samples/0", 301, "Once upon a time");
  board.restart_at(200);
  EXPECT_TRUE(board.path().filename().string().starts_with("events.out.tfevents."));

  const auto events = events_of(board.path());
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(only(events[0], 3), "brain.Event:2");
  EXPECT_GT(std::bit_cast<double>(read_raw<uint64_t>(only(events[0], 1), 0)), 1.6e9);

  EXPECT_EQ(only(events[1], 2), "300");
  const auto scalar = fields_of(only(fields_of(only(events[1], 5)), 1));
  EXPECT_EQ(only(scalar, 1), "train/loss");
  EXPECT_EQ(read_raw<float>(only(scalar, 2), 0), 2.5F);

  const auto text = fields_of(only(fields_of(only(events[2], 5)), 1));
  EXPECT_EQ(only(text, 1), "samples/0");
  const auto tensor = fields_of(only(text, 8));
  EXPECT_EQ(only(tensor, 1), "7");
  EXPECT_EQ(only(tensor, 8), "Once upon a time");
  EXPECT_EQ(only(fields_of(only(fields_of(only(text, 9)), 1)), 1), "text");

  EXPECT_EQ(only(events[3], 2), "200");
  EXPECT_EQ(only(fields_of(only(events[3], 7)), 1), "1");
}

}  // namespace
}  // namespace ink
