#include "models/hub/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "engine/core/error.h"

namespace ink {
namespace {

template <class To, class From>
To converted(From value) {
  if constexpr (std::is_same_v<To, double>) {
    if constexpr (std::is_same_v<From, double>)
      return value;
    else
      return static_cast<double>(static_cast<float>(value));
  } else {
    return static_cast<To>(static_cast<float>(value));
  }
}

}  // namespace

std::vector<NamedTensor> weights_of(const ParameterTable& table) {
  std::vector<NamedTensor> weights;
  for (const auto& parameter : table.all()) {
    if (!parameter->tied_to.empty()) continue;
    CHECK(parameter->local_shape == parameter->shape && !parameter->flat, "{} is not held whole",
          parameter->name);
    weights.push_back({parameter->name, parameter->value()});
  }
  return weights;
}

void convert_elements(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count) {
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, static_cast<size_t>(count * size_of(to_dtype)));
    return;
  }
  visit_float(from_dtype, [&]<class From>() {
    visit_float(to_dtype, [&]<class To>() {
      const From* source = static_cast<const From*>(from);
      To* target = static_cast<To*>(to);
      for (int64_t i = 0; i < count; ++i) target[i] = converted<To>(source[i]);
    });
  });
}

void ValueStats::merge(const ValueStats& other) {
  nonfinite += other.nonfinite;
  max_abs = std::max(max_abs, other.max_abs);
}

ValueStats value_stats(const void* values, DType dtype, int64_t count) {
  ValueStats stats;
  visit_float(dtype, [&]<class T>() {
    using Wide = compute_t<T>;
    const T* value = static_cast<const T*>(values);
    Wide max_abs = 0;
    for (int64_t i = 0; i < count; ++i) {
      const Wide magnitude = std::abs(static_cast<Wide>(value[i]));
      if (std::isfinite(magnitude)) {
        max_abs = std::max(max_abs, magnitude);
      } else {
        ++stats.nonfinite;
      }
    }
    stats.max_abs = static_cast<double>(max_abs);
  });
  return stats;
}

}  // namespace ink
