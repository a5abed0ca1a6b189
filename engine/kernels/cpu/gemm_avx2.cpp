// AVX2 parts of the packed GEMM: f32 FMA on tiles of 6 x 16 (12 of 16 registers hold sums).
#include <immintrin.h>

#include "engine/kernels/cpu/gemm.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include "engine/kernels/cpu/gemm_panels.h"
namespace ink {
namespace {

constexpr int kRows = 6, kVectors = 2, kCols = 8 * kVectors;

void multiply(int64_t depth, const float* a, const float* b, WriteMode mode, float* tile,
              const float*) {
  __m256 sum[kRows][kVectors];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      sum[i][v] = mode == WriteMode::kAccumulate ? _mm256_loadu_ps(tile + i * kCols + 8 * v)
                                                 : _mm256_setzero_ps();
  }
  for (int64_t p = 0; p < depth; ++p, a += kRows, b += kCols) {
    const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const __m256 ai = _mm256_broadcast_ss(a + i);
      sum[i][0] = _mm256_fmadd_ps(ai, b0, sum[i][0]);
      sum[i][1] = _mm256_fmadd_ps(ai, b1, sum[i][1]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(tile + i * kCols + 8 * v, sum[i][v]);
  }
}

constexpr GemmKernels<float> kKernels{
    kRows, kCols, pack<float, kRows>, pack<float, kCols>, multiply, store<float, kCols>};

}  // namespace
}  // namespace ink
#pragma GCC pop_options

namespace ink {

const GemmKernels<float>& gemm_kernels_avx2() { return kKernels; }

}  // namespace ink
