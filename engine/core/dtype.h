// Element types and the visits that turn a run-time type into a C++ one.
//
// bf16 and f16 are storage types: they convert to and from float (round to nearest, ties to even)
// and compute nothing themselves. f64 exists on the CPU only, for checks.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/host_device.h"

namespace ink {

enum class DType : uint8_t { kF64, kF32, kBF16, kF16, kI64, kI32, kU16, kU8 };

[[nodiscard]] int64_t size_of(DType dtype);             // bytes per element
[[nodiscard]] std::string_view name_of(DType dtype);    // "f32"
[[nodiscard]] DType dtype_from_name(std::string_view);  // InternalError when unknown
[[nodiscard]] inline bool is_float(DType dtype) { return dtype <= DType::kF16; }

struct bf16 {
  uint16_t bits = 0;

  bf16() = default;
  INK_HOST_DEVICE explicit bf16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) {  // NaN stays NaN: rounding could carry it to infinity
      bits = static_cast<uint16_t>((word >> 16) | 0x40u);
    } else {
      bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
    }
  }
  INK_HOST_DEVICE explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

struct f16 {
  uint16_t bits = 0;

  f16() = default;
  INK_HOST_DEVICE explicit f16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = word & 0x7fffffffu;
    uint32_t half;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);  // NaN stays a quiet NaN
    } else if (magnitude >= 0x47800000u) {
      half = 0x7c00u;  // 2^16 and above
    } else if (magnitude >=
               0x38800000u) {  // normal: rebias by 127 - 15; a carry may reach infinity
      half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    } else {  // subnormal: adding 0.5 rounds to steps of 2^-24, the last bit of the sum's mantissa
      half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    }
    bits = static_cast<uint16_t>(half | ((word >> 16) & 0x8000u));
  }
  INK_HOST_DEVICE explicit operator float() const {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    const uint32_t magnitude = bits & 0x7fffu;
    uint32_t word;
    if (magnitude >= 0x7c00u) {
      word = 0x7f800000u | ((magnitude & 0x3ffu) << 13);
    } else if (magnitude >= 0x0400u) {
      word = (magnitude << 13) + 0x38000000u;
    } else {
      word = std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
    }
    return std::bit_cast<float>(word | sign);
  }
};

template <class T>
struct dtype_of;
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct dtype_of<f16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct dtype_of<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct dtype_of<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct dtype_of<uint16_t> {
  static constexpr DType value = DType::kU16;
};
template <>
struct dtype_of<uint8_t> {
  static constexpr DType value = DType::kU8;
};

// The type a kernel computes and accumulates in: double for f64, float for every other float type.
template <class T>
struct compute_type {
  using type = float;
};
template <>
struct compute_type<double> {
  using type = double;
};
template <class T>
using compute_t = typename compute_type<T>::type;

// Calls f.template operator()<T>() with the float type of `dtype`; InternalError for the others.
template <class F>
decltype(auto) visit_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF64:
      return f.template operator()<double>();
    case DType::kF32:
      return f.template operator()<float>();
    case DType::kBF16:
      return f.template operator()<bf16>();
    case DType::kF16:
      return f.template operator()<f16>();
    default:
      throw InternalError(fmt::format("{} is not a float type", name_of(dtype)));
  }
}

}  // namespace ink
