#include "engine/core/dtype.h"

#include <array>

namespace ink {
namespace {

struct Row {
  std::string_view name;
  int64_t size;
};
constexpr std::array<Row, 8> kTypes{{{"f64", 8},
                                     {"f32", 4},
                                     {"bf16", 2},
                                     {"f16", 2},
                                     {"i64", 8},
                                     {"i32", 4},
                                     {"u16", 2},
                                     {"u8", 1}}};

}  // namespace

int64_t size_of(DType dtype) { return kTypes[static_cast<size_t>(dtype)].size; }

std::string_view name_of(DType dtype) { return kTypes[static_cast<size_t>(dtype)].name; }

DType dtype_from_name(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<DType>(i);
  }
  throw InternalError(fmt::format("unknown dtype '{}'", name));
}

}  // namespace ink
