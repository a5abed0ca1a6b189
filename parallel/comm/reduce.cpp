#include "parallel/comm/reduce.h"

#include <algorithm>
#include <type_traits>

namespace ink {
namespace {

template <class T>
void reduce(ReduceOp op, const void* from, void* into, int64_t count) {
  const T* a = static_cast<const T*>(from);
  T* b = static_cast<T*>(into);
  using Wide = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
  if (op == ReduceOp::kSum) {
    for (int64_t i = 0; i < count; ++i)
      b[i] = static_cast<T>(static_cast<Wide>(b[i]) + static_cast<Wide>(a[i]));
  } else {
    for (int64_t i = 0; i < count; ++i)
      b[i] = static_cast<T>(std::max(static_cast<Wide>(a[i]), static_cast<Wide>(b[i])));
  }
}

}  // namespace

void reduce_elements(DType dtype, ReduceOp op, const void* from, void* into, int64_t count) {
  switch (dtype) {
    case DType::kF32:
      return reduce<float>(op, from, into, count);
    case DType::kBF16:
      return reduce<bf16>(op, from, into, count);
    case DType::kF64:
      return reduce<double>(op, from, into, count);
    case DType::kI32:
      return reduce<int32_t>(op, from, into, count);
    case DType::kI64:
      return reduce<int64_t>(op, from, into, count);
    default:
      throw InternalError(fmt::format("no reduction of {}: reduce in f32", name_of(dtype)));
  }
}

}  // namespace ink
