// The arithmetic of attention on tiles that lie in the cache: packing, transposing, a strip-wise
// matrix product, exp.
//
// Everything is a template on Lanes<Real, bytes>, a vector of the compiler's own vector types. A
// file of wide candidates sets `#pragma GCC target` and then includes this header, so that its
// instantiations, and only those, are made for that instruction set; the width in their type keeps
// them apart from the plain ones when the program is linked. So whatever is defined here must be a
// template on Lanes. Nothing here allocates or starts threads.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "engine/core/dtype.h"

namespace ink {

template <class R, int kBytes>
struct Lanes {
  using Real = R;
  using Integer = std::conditional_t<sizeof(R) == 4, int32_t, int64_t>;
  static constexpr int kWidth = kBytes / static_cast<int>(sizeof(R));
  // Columns of a product held in registers, in vectors: kStrip * kPanel sums, one row of B and one
  // broadcast fit into 32 registers (AVX-512) or 16.
  static constexpr int kPanel = kBytes == 64 ? 4 : 2;
  using Vec [[gnu::vector_size(kBytes)]] = R;
  using IntVec [[gnu::vector_size(kBytes)]] = Integer;
  using Bits [[gnu::vector_size(kBytes)]] = std::make_unsigned_t<Integer>;
};

// Rows of a product that are worked on together.
inline constexpr int kStrip = 6;

template <class L>
typename L::Vec load(const typename L::Real* from) {
  typename L::Vec v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <class L>
void store(typename L::Real* to, typename L::Vec v) {
  std::memcpy(to, &v, sizeof(v));
}

template <class L>
typename L::Vec splat(typename L::Real x) {
  typename L::Vec v;
  for (int i = 0; i < L::kWidth; ++i) v[i] = x;
  return v;
}

// exp(x) for x <= 0 (a little above is fine): relative error about 1e-7 in f32; 0 below -87 in f32;
// NaN stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2, then the Taylor series to r^7 (its remainder
// is below 6e-9) times 2^n.
template <class L>
typename L::Vec exp_lanes(typename L::Vec x) {
  using Vec = typename L::Vec;
  using IntVec = typename L::IntVec;
  using Bits = typename L::Bits;
  if constexpr (sizeof(typename L::Real) == 8) {
    Vec y;
    for (int i = 0; i < L::kWidth; ++i) y[i] = std::exp(x[i]);
    return y;
  } else {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(v) in the low bits
    const Vec shifted = x * 1.44269504f + kRound;
    const Vec n = shifted - kRound;
    const Vec r = (x - n * 0.693145752f) - n * 1.42860677e-6f;  // ln 2 in two parts
    Vec p = r * (1.0f / 5040) + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    // Lanes far below -87 wrap around here and become 0 in the end.
    const Bits scale = (reinterpret_cast<Bits>(shifted) << 23) + 0x3f800000u;
    const Vec y = p * reinterpret_cast<Vec>(scale);
    return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(y) & ~(x < -87.0f));
  }
}

template <class L>
typename L::Real exp_scalar(typename L::Real x) {
  return exp_lanes<L>(splat<L>(x))[0];
}

template <class L>
typename L::Vec larger(typename L::Vec a, typename L::Vec b) {
  return a > b ? a : b;
}

template <class L, int kStep, int... kLane>
typename L::Vec swap_lanes(typename L::Vec v, std::integer_sequence<int, kLane...>) {
  return __builtin_shuffle(v, typename L::IntVec{(kLane ^ kStep)...});
}

template <class L, int kStep = L::kWidth / 2>
typename L::Real max_of(typename L::Vec v) {
  v = larger<L>(v, swap_lanes<L, kStep>(v, std::make_integer_sequence<int, L::kWidth>()));
  if constexpr (kStep > 1) return max_of<L, kStep / 2>(v);
  return v[0];
}

template <class L, int kStep = L::kWidth / 2>
typename L::Real sum_of(typename L::Vec v) {
  v += swap_lanes<L, kStep>(v, std::make_integer_sequence<int, L::kWidth>());
  if constexpr (kStep > 1) return sum_of<L, kStep / 2>(v);
  return v[0];
}

// to[0, padded) = scale * from[0, n), then zeros.
template <class L, class T>
void pack_row(const T* from, int64_t n, int64_t padded, typename L::Real scale,
              typename L::Real* __restrict to) {
  using Real = typename L::Real;
  for (int64_t i = 0; i < n; ++i)
    to[i] = scale * static_cast<Real>(static_cast<compute_t<T>>(from[i]));
  for (int64_t i = n; i < padded; ++i) to[i] = 0;
}

// One stage of the butterfly that transposes kWidth x kWidth: lane bits and row bits of weight
// kStep change places.
template <class L, int kStep, int... kLane>
void exchange(typename L::Vec& a, typename L::Vec& b, std::integer_sequence<int, kLane...>) {
  using IntVec = typename L::IntVec;
  constexpr int kWidth = L::kWidth;
  const auto low =
      __builtin_shuffle(a, b, IntVec{((kLane & kStep) ? kWidth + kLane - kStep : kLane)...});
  b = __builtin_shuffle(a, b, IntVec{((kLane & kStep) ? kWidth + kLane : kLane + kStep)...});
  a = low;
}

template <class L, int kStep>
void transpose_stage(typename L::Vec (&rows)[L::kWidth]) {
#pragma GCC unroll 16
  for (int i = 0; i < L::kWidth; ++i) {
    if ((i & kStep) == 0)
      exchange<L, kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, L::kWidth>());
  }
  if constexpr (kStep > 1) transpose_stage<L, kStep / 2>(rows);
}

// to[c * to_stride + r] = from[r * from_stride + c] for r < rows, c < cols, both multiples of
// kWidth.
template <class L>
void transpose(const typename L::Real* from, int64_t from_stride, int64_t rows, int64_t cols,
               typename L::Real* to, int64_t to_stride) {
  constexpr int kWidth = L::kWidth;
  for (int64_t r = 0; r < rows; r += kWidth) {
    for (int64_t c = 0; c < cols; c += kWidth) {
      typename L::Vec block[kWidth];
      for (int i = 0; i < kWidth; ++i) block[i] = load<L>(from + (r + i) * from_stride + c);
      transpose_stage<L, kWidth / 2>(block);
      for (int i = 0; i < kWidth; ++i) store<L>(to + (c + i) * to_stride + r, block[i]);
    }
  }
}

enum class Product : uint8_t { kSet, kAdd };

// Element (i, k) is data[i * row + k * step].
template <class L>
struct Strided {
  const typename L::Real* data;
  int64_t row, step;
};

template <class L, int kVectors, Product kMode>
void multiply_panel(Strided<L> a, const typename L::Real* b, int64_t b_stride, int64_t depth,
                    typename L::Real* c, int64_t c_stride) {
  using Vec = typename L::Vec;
  constexpr int kWidth = L::kWidth;
  Vec sum[kStrip][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kStrip; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j)
      sum[i][j] = kMode == Product::kAdd ? load<L>(c + i * c_stride + j * kWidth) : Vec{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec row[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) row[j] = load<L>(b + k * b_stride + j * kWidth);
#pragma GCC unroll 8
    for (int i = 0; i < kStrip; ++i) {
      const typename L::Real left = a.data[i * a.row + k * a.step];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] += left * row[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kStrip; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) store<L>(c + i * c_stride + j * kWidth, sum[i][j]);
  }
}

// c (kStrip rows of `vectors` vectors) = or += a (kStrip x depth) * b (depth rows).
template <class L, Product kMode>
void multiply_strip(Strided<L> a, const typename L::Real* b, int64_t b_stride, int64_t depth,
                    int64_t vectors, typename L::Real* c, int64_t c_stride) {
  for (int64_t v = 0; v < vectors; v += L::kPanel) {
    const int64_t column = v * L::kWidth;
    const int64_t left = vectors - v;
    if (left >= L::kPanel) {
      multiply_panel<L, L::kPanel, kMode>(a, b + column, b_stride, depth, c + column, c_stride);
    } else if (left == 3) {
      multiply_panel<L, 3, kMode>(a, b + column, b_stride, depth, c + column, c_stride);
    } else if (left == 2) {
      multiply_panel<L, 2, kMode>(a, b + column, b_stride, depth, c + column, c_stride);
    } else {
      multiply_panel<L, 1, kMode>(a, b + column, b_stride, depth, c + column, c_stride);
    }
  }
}

}  // namespace ink
