#include "engine/io/safetensors_table.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "engine/core/error.h"
#include "engine/io/safetensors_header.h"

namespace ink {
namespace {

constexpr std::array<FileDType, 20> kFileDTypes{{
    {"F64", 64, DType::kF64},     {"F32", 32, DType::kF32},     {"BF16", 16, DType::kBF16},
    {"F16", 16, DType::kF16},     {"I64", 64, DType::kI64},     {"I32", 32, DType::kI32},
    {"U16", 16, DType::kU16},     {"U8", 8, DType::kU8},        {"BOOL", 8, std::nullopt},
    {"I8", 8, std::nullopt},      {"I16", 16, std::nullopt},    {"U32", 32, std::nullopt},
    {"U64", 64, std::nullopt},    {"C64", 64, std::nullopt},    {"F8_E4M3", 8, std::nullopt},
    {"F8_E5M2", 8, std::nullopt}, {"F8_E8M0", 8, std::nullopt}, {"F4", 4, std::nullopt},
    {"F6_E2M3", 6, std::nullopt}, {"F6_E3M2", 6, std::nullopt},
}};

class TableCheck {
 public:
  TableCheck(const std::string& place, uint64_t data_bytes)
      : place_(place), data_bytes_(data_bytes) {}

  // Range inside the buffer and of the size that dtype and shape ask for.
  void entry(const SafetensorsEntry& e) const {
    if (e.begin > e.end || e.end > data_bytes_) {
      fail(e, fmt::format("expected 0 <= begin <= end <= {} (bytes in the file), got [{}, {}]",
                          data_bytes_, e.begin, e.end));
    }
    const std::optional<uint64_t> bytes = byte_size(e);
    if (!bytes || *bytes != e.bytes()) {
      fail(e, fmt::format("expected {} bytes for {} {}, got [{}, {}] = {}",
                          bytes ? fmt::format("{}", *bytes) : "a whole, 64-bit number of",
                          e.dtype->name, shape_text(e.shape), e.begin, e.end, e.bytes()));
    }
  }

  // `entries` in order of offset cover the buffer exactly.
  void coverage(std::span<const SafetensorsEntry> entries) const {
    uint64_t covered = 0;
    for (const SafetensorsEntry& e : entries) {
      if (e.begin != covered) {
        fail(e, fmt::format("expected its data at byte {}, got {}: {}", covered, e.begin,
                            e.begin < covered ? "it overlaps another tensor" : "a hole before it"));
      }
      covered = e.end;
    }
    if (covered != data_bytes_) {
      throw Error(ExitCode::kBadInput, place_,
                  fmt::format("expected {} bytes of data, got {}: {} trailing bytes", covered,
                              data_bytes_, data_bytes_ - covered));
    }
  }

 private:
  [[noreturn]] void fail(const SafetensorsEntry& e, const std::string& message) const {
    throw Error(ExitCode::kBadInput, fmt::format("{}: tensor {}", place_, quote_name(e.name)),
                message);
  }

  // Nothing when the count overflows or packed elements do not fill whole bytes.
  static std::optional<uint64_t> byte_size(const SafetensorsEntry& e) {
    uint64_t bits = static_cast<uint64_t>(e.dtype->bits);
    if (std::count(e.shape.begin(), e.shape.end(), 0) > 0) return 0;
    for (const int64_t size : e.shape) {
      if (__builtin_mul_overflow(bits, static_cast<uint64_t>(size), &bits)) return std::nullopt;
    }
    if (bits % 8 != 0) return std::nullopt;
    return bits / 8;
  }

  const std::string& place_;
  uint64_t data_bytes_;
};

}  // namespace

const FileDType* find_file_dtype(std::string_view name) {
  const auto it = std::find_if(kFileDTypes.begin(), kFileDTypes.end(),
                               [&](const FileDType& d) { return d.name == name; });
  return it == kFileDTypes.end() ? nullptr : &*it;
}

const FileDType& file_dtype_of(DType dtype) {
  const auto it = std::find_if(kFileDTypes.begin(), kFileDTypes.end(),
                               [&](const FileDType& d) { return d.native == dtype; });
  CHECK(it != kFileDTypes.end(), "no safetensors dtype for {}", name_of(dtype));
  return *it;
}

int64_t SafetensorsEntry::numel() const {
  // A table proved that the count fits, unless a zero hides larger factors.
  if (std::count(shape.begin(), shape.end(), 0) > 0) return 0;
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

SafetensorsTable SafetensorsTable::parse(std::string_view header, uint64_t data_bytes,
                                         const std::string& place) {
  SafetensorsTable table;
  parse_safetensors_header(header, place, table.entries_, table.metadata_);

  std::vector<SafetensorsEntry>& entries = table.entries_;
  const TableCheck check(place, data_bytes);
  for (const SafetensorsEntry& e : entries) check.entry(e);
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });

  table.by_name_.resize(entries.size());
  for (uint32_t i = 0; i < table.by_name_.size(); ++i) table.by_name_[i] = i;
  const auto name = [&](uint32_t i) -> const std::string& { return entries[i].name; };
  std::sort(table.by_name_.begin(), table.by_name_.end(),
            [&](uint32_t a, uint32_t b) { return name(a) < name(b); });
  const auto twice = std::adjacent_find(table.by_name_.begin(), table.by_name_.end(),
                                        [&](uint32_t a, uint32_t b) { return name(a) == name(b); });
  if (twice != table.by_name_.end()) {
    throw Error(ExitCode::kBadInput, fmt::format("{}: tensor {}", place, quote_name(name(*twice))),
                "expected each name once, got it twice");
  }
  check.coverage(entries);
  return table;
}

const SafetensorsEntry* SafetensorsTable::find(std::string_view name) const {
  const auto it = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [&](uint32_t i, std::string_view wanted) { return entries_[i].name < wanted; });
  if (it == by_name_.end() || entries_[*it].name != name) return nullptr;
  return &entries_[*it];
}

}  // namespace ink
