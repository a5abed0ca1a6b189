// AVX-512 parts of the packed GEMM: f32 FMA on tiles of 8 x 48 (24 of 32 registers hold sums, 11
// loads serve 24 FMAs, so that a busy second hardware thread of the core costs little);
// bf16 and f16 are widened while they are packed. VDPBF16PS is not used: on Intel cores without AMX
// it does fewer products a second than f32 FMA (docs/benchmarks).
#include <immintrin.h>

#include <algorithm>
#include <type_traits>

#include "engine/core/dtype.h"
#include "engine/kernels/cpu/gemm.h"

// g++ 12 warns about its own intrinsics headers (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
namespace ink {
namespace {

constexpr int kRows = 8, kVectors = 3, kCols = 16 * kVectors;
constexpr int kAhead = 4;  // depths that panels of b are fetched before their use

__mmask16 first_lanes(int64_t count) {
  return count >= 16 ? 0xffff : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}

__m512 load(__mmask16 lanes, const float* x) { return _mm512_maskz_loadu_ps(lanes, x); }
__m512 load(__mmask16 lanes, const bf16* x) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
__m512 load(__mmask16 lanes, const f16* x) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, x));
}

void save(float* x, __mmask16 lanes, __m512 value) { _mm512_mask_storeu_ps(x, lanes, value); }
// Round to nearest even on the bits; NaN keeps its upper half, made quiet.
void save(bf16* x, __mmask16 lanes, __m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  const __m512i kept = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i word = _mm512_srli_epi32(_mm512_mask_mov_epi32(up, nan, kept), 16);
  _mm256_mask_storeu_epi16(x, lanes, _mm512_cvtepi32_epi16(word));
}
void save(f16* x, __mmask16 lanes, __m512 value) {
  _mm256_mask_storeu_epi16(x, lanes, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

// 4 x 4 blocks of single lanes: t[i + c] gets, in its 128-bit lane l, elements 4 l + c of rows i to
// i + 3.
template <int kCount>
void transpose_blocks(const __m512 (&r)[kCount], __m512 (&t)[kCount]) {
#pragma GCC unroll 4
  for (int i = 0; i < kCount; i += 4) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3]));
    t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
}

// Rows become columns, in place.
void transpose(__m512 (&r)[16]) {
  __m512 t[16];
  transpose_blocks(r, t);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
    const __m512 b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
    const __m512 d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
    r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
    r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
    r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

// Depths of an operand in a word of 32 bits: bf16 is transposed in pairs and widened afterwards.
template <class T>
constexpr int kPair = std::is_same_v<T, bf16> ? 2 : 1;

// Sixteen words of a row, `count` of whose elements exist.
template <class T>
__m512 load_words(int64_t count, const T* x) {
  if constexpr (kPair<T> == 1) {
    return load(first_lanes(count), x);
  } else {
    const __mmask32 lanes = count >= 32 ? ~0u : count <= 0 ? 0 : (1u << count) - 1;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(lanes, x));
  }
}

// The elements at an even or odd depth of words.
template <class T>
__m512 part(__m512 words, int odd) {
  if constexpr (kPair<T> == 1) return words;
  const __m512i bits = _mm512_castps_si512(words);
  return _mm512_castsi512_ps(
      odd ? _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))
          : _mm512_slli_epi32(bits, 16));
}

template <class T>
void save_eight(float* to, __m512d words) {
#pragma GCC unroll 2
  for (int odd = 0; odd < kPair<T>; ++odd) {
    const __m512 x = part<T>(_mm512_castpd_ps(words), odd);
    _mm256_storeu_ps(to + 8 * odd, _mm512_castps512_ps256(x));
    _mm256_storeu_ps(to + 8 * (odd + 4 * kPair<T>), _mm512_extractf32x8_ps(x, 1));
  }
}

// Eight rows of sixteen words become columns of eight elements, side by side at `to`.
template <class T>
void transpose_eight(const __m512 (&r)[8], float* to) {
  __m512 t[8];
  transpose_blocks(r, t);
  const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512d a = _mm512_castps_pd(t[c]), b = _mm512_castps_pd(t[c + 4]);
    save_eight<T>(to + 8 * kPair<T> * c, _mm512_permutex2var_pd(a, low, b));
    save_eight<T>(to + 8 * kPair<T> * (c + 8), _mm512_permutex2var_pd(a, high, b));
  }
}

template <class T, int kWidth>
void pack_across(const T* x, int64_t depth_stride, int64_t count, int64_t depth, float* panel) {
  for (int64_t p = 0; p < depth; ++p) {
    for (int i = 0; i < kWidth; i += 16)
      save(panel + p * kWidth + i, first_lanes(kWidth - i),
           load(first_lanes(count - i), x + p * depth_stride + i));
  }
}

// Panels of eight, two from each vector.
template <class T>
void pack_eights_across(const T* x, int64_t depth_stride, int64_t count, int64_t depth,
                        float* panels) {
  for (int64_t p = 0; p < depth; ++p, x += depth_stride, panels += 8) {
    float* to = panels;
    for (int64_t i = 0; i < count; i += 16, to += 16 * depth) {
      const __m512 two = load(first_lanes(count - i), x + i);
      _mm256_storeu_ps(to, _mm512_castps512_ps256(two));
      if (i + 8 < count) _mm256_storeu_ps(to + 8 * depth, _mm512_extractf32x8_ps(two, 1));
    }
  }
}

template <class T, int kWidth>
void pack_along(const T* x, int64_t outer_stride, int64_t count, int64_t depth, float* panel) {
  for (int i = 0; i < kWidth; i += 16) {
    const __mmask16 kept = first_lanes(kWidth - i);
    for (int64_t p = 0; p < depth; p += 16 * kPair<T>) {
      const T* from = x + i * outer_stride + p;
      __m512 r[16];
#pragma GCC unroll 16
      for (int j = 0; j < 16; ++j, from += outer_stride)
        r[j] = load_words(i + j < count ? depth - p : 0, from);
      transpose(r);
      float* to = panel + p * kWidth + i;
#pragma GCC unroll 16
      for (int j = 0; j < 16 * kPair<T>; ++j, to += kWidth) {
        if (p + j < depth) save(to, kept, part<T>(r[j / kPair<T>], j % kPair<T>));
      }
    }
  }
}

// A whole panel of eight: groups of sixteen words by the narrow transpose.
template <class T>
void pack_eight_along(const T* x, int64_t outer_stride, int64_t depth, float* panel) {
  constexpr int64_t kStep = 16 * kPair<T>;
  const int64_t whole = depth / kStep * kStep;
  for (int64_t p = 0; p < whole; p += kStep) {
    __m512 r[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) r[j] = load_words(kStep, x + j * outer_stride + p);
    transpose_eight<T>(r, panel + p * 8);
  }
  if (whole < depth) pack_along<T, 8>(x + whole, outer_stride, 8, depth - whole, panel + whole * 8);
}

template <class T, int kWidth>
void pack_typed(const GemmOperand& operand, int64_t outer, int64_t count, int64_t depth_begin,
                int64_t depth, float* panels) {
  const T* x = static_cast<const T*>(operand.data) + outer * operand.outer_stride +
               depth_begin * operand.depth_stride;
  if (operand.depth_stride != 1 && kWidth == 8) {
    return pack_eights_across<T>(x, operand.depth_stride, count, depth, panels);
  }
  for (; count > 0; count -= kWidth, x += kWidth * operand.outer_stride, panels += kWidth * depth) {
    if (operand.depth_stride != 1) {
      pack_across<T, kWidth>(x, operand.depth_stride, count, depth, panels);
    } else if (kWidth == 8 && count >= 8) {
      pack_eight_along<T>(x, operand.outer_stride, depth, panels);
    } else {
      pack_along<T, kWidth>(x, operand.outer_stride, count, depth, panels);
    }
  }
}

template <int kWidth>
void pack(const GemmOperand& operand, int64_t outer, int64_t count, int64_t depth_begin,
          int64_t depth, float* panels) {
  if (operand.dtype == DType::kF32) {
    pack_typed<float, kWidth>(operand, outer, count, depth_begin, depth, panels);
  } else if (operand.dtype == DType::kBF16) {
    pack_typed<bf16, kWidth>(operand, outer, count, depth_begin, depth, panels);
  } else {
    pack_typed<f16, kWidth>(operand, outer, count, depth_begin, depth, panels);
  }
}

void multiply(int64_t depth, const float* a, const float* b, WriteMode mode, float* tile,
              const float* soon) {
  __m512 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
      sum[i][v] = mode == WriteMode::kAccumulate ? _mm512_loadu_ps(tile + i * kCols + 16 * v)
                                                 : _mm512_setzero_ps();
  }
  for (int64_t p = 0; p < depth; ++p, a += kRows, b += kCols) {
    if (soon != nullptr && p % kFetchStep == 0)
      _mm_prefetch(reinterpret_cast<const char*>(soon + p / kFetchStep * 16), _MM_HINT_T1);
    __m512 bv[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      _mm_prefetch(reinterpret_cast<const char*>(b + kAhead * kCols + 16 * v), _MM_HINT_T0);
      bv[v] = _mm512_loadu_ps(b + 16 * v);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const __m512 ai = _mm512_set1_ps(a[i]);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[i][v] = _mm512_fmadd_ps(ai, bv[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(tile + i * kCols + 16 * v, sum[i][v]);
  }
}

template <class T>
__m512 load_bias(const void* bias, int64_t col, __mmask16 lanes) {
  return load(lanes, static_cast<const T*>(bias) + col);
}

__m512 bias_of(const GemmResult& c, int64_t col, __mmask16 lanes) {
  if (c.bias == nullptr) return _mm512_setzero_ps();
  if (c.bias_dtype == DType::kF32) return load_bias<float>(c.bias, col, lanes);
  if (c.bias_dtype == DType::kBF16) return load_bias<bf16>(c.bias, col, lanes);
  return load_bias<f16>(c.bias, col, lanes);
}

template <class T>
void store_typed(const float* tile, int64_t rows, int64_t cols, const GemmResult& c, int64_t row,
                 int64_t col) {
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 lanes = first_lanes(cols - 16 * v);
    const __m512 bias = bias_of(c, col + 16 * v, lanes);
    T* to = static_cast<T*>(c.data) + row * c.row_stride + col + 16 * v;
    for (int64_t i = 0; i < rows; ++i, to += c.row_stride) {
      const __m512 sum = _mm512_loadu_ps(tile + i * kCols + 16 * v);
      save(to, lanes,
           _mm512_add_ps(sum, c.mode == WriteMode::kAccumulate ? load(lanes, to) : bias));
    }
  }
}

void store(const float* tile, int64_t rows, int64_t cols, const GemmResult& c, int64_t row,
           int64_t col) {
  if (c.dtype == DType::kF32) {
    store_typed<float>(tile, rows, cols, c, row, col);
  } else if (c.dtype == DType::kBF16) {
    store_typed<bf16>(tile, rows, cols, c, row, col);
  } else {
    store_typed<f16>(tile, rows, cols, c, row, col);
  }
}

}  // namespace
}  // namespace ink
#pragma GCC pop_options

namespace ink {

const GemmKernels<float>& gemm_kernels_avx512() {
  static constexpr GemmKernels<float> kKernels{kRows,       kCols,    pack<kRows>,
                                               pack<kCols>, multiply, store};
  return kKernels;
}

}  // namespace ink
