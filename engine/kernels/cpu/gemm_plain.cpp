// The packed GEMM for any processor, in f32 and f64: tiles of 4 x 8 that the compiler vectorises.
#include "engine/kernels/cpu/gemm.h"
#include "engine/kernels/cpu/gemm_panels.h"

namespace ink {
namespace {

constexpr int kRows = 4, kCols = 8;

template <class Acc>
void multiply(int64_t depth, const Acc* a, const Acc* b, WriteMode mode, Acc* tile, const Acc*) {
  Acc sum[kRows][kCols] = {};
  for (int64_t p = 0; p < depth; ++p, a += kRows, b += kCols) {
    for (int i = 0; i < kRows; ++i) {
#pragma omp simd
      for (int j = 0; j < kCols; ++j) sum[i][j] += a[i] * b[j];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kCols; ++j) {
      Acc& to = tile[i * kCols + j];
      to = mode == WriteMode::kAccumulate ? to + sum[i][j] : sum[i][j];
    }
  }
}

template <class Acc>
constexpr GemmKernels<Acc> kKernels{
    kRows, kCols, pack<Acc, kRows>, pack<Acc, kCols>, multiply<Acc>, store<Acc, kCols>};

}  // namespace

const GemmKernels<float>& gemm_kernels_plain_f32() { return kKernels<float>; }
const GemmKernels<double>& gemm_kernels_plain_f64() { return kKernels<double>; }

}  // namespace ink
