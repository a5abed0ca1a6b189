#include "models/hub/weights.h"

#include <algorithm>
#include <bit>
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

template <class T>
struct BitsOf;
template <>
struct BitsOf<double> {
  using type = uint64_t;
  static constexpr type kInfinity = 0x7ff0'0000'0000'0000;
};
template <>
struct BitsOf<float> {
  using type = uint32_t;
  static constexpr type kInfinity = 0x7f80'0000;
};
template <>
struct BitsOf<bf16> {
  using type = uint16_t;
  static constexpr type kInfinity = 0x7f80;
};
template <>
struct BitsOf<f16> {
  using type = uint16_t;
  static constexpr type kInfinity = 0x7c00;
};

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

// Magnitudes of IEEE formats are ordered like their bits without the sign, so integers, which the
// compiler vectorises, do the comparing; from `infinity` on nothing is finite.
ValueStats value_stats(const void* values, DType dtype, int64_t count) {
  ValueStats stats;
  visit_float(dtype, [&]<class T>() {
    using Bits = typename BitsOf<T>::type;
    constexpr Bits kMagnitude = static_cast<Bits>(~Bits{0}) >> 1;
    const Bits* bits = static_cast<const Bits*>(values);
    Bits largest = 0;
    for (int64_t i = 0; i < count; ++i) {
      const Bits magnitude = bits[i] & kMagnitude;
      const bool finite = magnitude < BitsOf<T>::kInfinity;
      stats.nonfinite += !finite;
      largest = std::max(largest, finite ? magnitude : Bits{0});
    }
    stats.max_abs = converted<double>(std::bit_cast<T>(largest));
  });
  return stats;
}

}  // namespace ink
