// What the memory-bound CPU kernels share: one body compiled for several instruction sets, loops
// over rows, and an exponential that vectorises.
//
// Isa::run(body) inlines body and all it calls (flatten) into a function marked for that
// instruction set; the compiler vectorises it there. Bodies are branch-free loops marked
// `omp simd` on raw pointers. Everything is in an anonymous namespace, so that the linker can
// never keep a wide copy of a function that plain code calls.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "engine/tensor/tensor.h"

namespace ink {
namespace {

struct Plain {
  template <class Body>
  static inline void run(const Body& body) {
    body();
  }
};

struct Avx2 {
  template <class Body>
  __attribute__((target("avx2,fma"), flatten, noinline)) static void run(const Body& body) {
    body();
  }
};

struct Avx512 {
  template <class Body>
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"), flatten,
                 noinline)) static void
  run(const Body& body) {
    body();
  }
};

// supports() of the candidates, whatever the slot's arguments.
template <class... A>
bool on_avx2(A...) {
  return has_avx2();
}
template <class... A>
bool on_avx512(A...) {
  return has_avx512();
}

// Work below this many elements is not worth waking threads for.
constexpr int64_t kParallelElements = 65536;
// Elements of a flat tensor that one call of a body takes.
constexpr int64_t kSpan = 8192;

// Calls body(row, column, count) for spans that cover [rows, cols], in parallel. A flat matrix
// (every tensor contiguous) is one long row.
template <class Body>
void for_spans(int64_t rows, int64_t cols, bool flat, const Body& body) {
  const int64_t total = rows * cols;
  if (total == 0) return;
  const int64_t length = flat ? kSpan : cols;
  const int64_t spans = flat ? (total + kSpan - 1) / kSpan : rows;
#pragma omp parallel for schedule(static) if (total > kParallelElements)
  for (int64_t s = 0; s < spans; ++s) {
    if (flat) {
      body(int64_t{0}, s * length, std::min(length, total - s * length));
    } else {
      body(s, int64_t{0}, cols);
    }
  }
}

template <class... T>
bool all_contiguous(const T&... tensors) {
  return (tensors.contiguous() && ...);
}

// Row and first element of a span of a tensor.
template <class T>
T* at(const Tensor& tensor, int64_t row, int64_t column) {
  return tensor.data<T>() + row * tensor.row_stride() + column;
}

template <class T>
inline compute_t<T> widen(T value) {
  return static_cast<compute_t<T>>(value);
}
// The same rounding as static_cast<T>. bf16's choice between NaN and number is a mask here: a
// branch that the compiler threads through two roundings in a row would stop the vectoriser.
template <class T>
inline T narrow(compute_t<T> value) {
  if constexpr (std::is_same_v<T, bf16>) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    const uint32_t nan = 0u - static_cast<uint32_t>((word & 0x7fffffffu) > 0x7f800000u);
    const uint32_t rounded = word + 0x7fffu + ((word >> 16) & 1u);
    bf16 result;
    result.bits = static_cast<uint16_t>(((rounded & ~nan) | ((word | 0x400000u) & nan)) >> 16);
    return result;
  } else {
    return static_cast<T>(value);
  }
}

// e^x without branches, 2 ulp in [-87, 88], held constant outside: Cody and Waite's reduction by
// ln 2 in two parts, then the Taylor polynomial of degree 7 on [-ln 2 / 2, ln 2 / 2].
inline float exp_lane(float x) {
  const float bounded = std::min(std::max(x, -87.0f), 88.0f);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = (bounded * 1.44269504088896341f + kRound) - kRound;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}
inline double exp_lane(double x) { return std::exp(x); }

}  // namespace
}  // namespace ink
