// y = x * W^T for one to four rows of x, as generation has them: bound by reading W once. Threads
// share the rows of W; x is widened beforehand.
#include <utility>

#include "engine/kernels/cpu/vector_math.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

constexpr int64_t kMostRows = 4;
constexpr int64_t kOutputs = 16;  // rows of W that a thread takes at a time

// One row of W against kRows rows of x.
template <int kRows, class T>
void dot_row(const float* x, int64_t depth, const T* w, float* sums) {
  float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
  for (int64_t i = 0; i < depth; ++i) {
    const auto wi = static_cast<float>(w[i]);
    s0 += wi * x[i];
    if constexpr (kRows > 1) s1 += wi * x[depth + i];
    if constexpr (kRows > 2) s2 += wi * x[2 * depth + i];
    if constexpr (kRows > 3) s3 += wi * x[3 * depth + i];
  }
  sums[0] = s0;
  if constexpr (kRows > 1) sums[1] = s1;
  if constexpr (kRows > 2) sums[2] = s2;
  if constexpr (kRows > 3) sums[3] = s3;
}

template <class T>
void dot(int64_t rows, const float* x, int64_t depth, const T* w, float* sums) {
  if (rows == 1) return dot_row<1>(x, depth, w, sums);
  if (rows == 2) return dot_row<2>(x, depth, w, sums);
  if (rows == 3) return dot_row<3>(x, depth, w, sums);
  return dot_row<4>(x, depth, w, sums);
}

template <class T, class Y>
void finish(const Tensor& bias_O, int64_t o, int64_t rows, const float* sums, Tensor& y_TO) {
  const float bias = bias_O.defined() ? static_cast<float>(bias_O.data<T>()[o]) : 0.0F;
  for (int64_t t = 0; t < rows; ++t) *at<Y>(y_TO, t, o) = static_cast<Y>(sums[t] + bias);
}

template <class Isa, class T>
void forward_typed(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O, Tensor& y_TO) {
  const int64_t rows = x_TI.rows(), depth = x_TI.cols(), outputs = w_OI.rows();
  const Tensor wide(x_TI.runtime(), {rows, depth}, DType::kF32, MemoryTag::kWorkspace);
  auto* x = wide.data<float>();
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t i = 0; i < depth; ++i) x[t * depth + i] = static_cast<float>(at<T>(x_TI, t, 0)[i]);
  }
#pragma omp parallel for schedule(static) if (w_OI.numel() >= kParallelElements)
  for (int64_t begin = 0; begin < outputs; begin += kOutputs) {
    for (int64_t o = begin; o < std::min(begin + kOutputs, outputs); ++o) {
      float sums[kMostRows];
      Isa::run([&] { dot(rows, x, depth, at<T>(w_OI, o, 0), sums); });
      if (y_TO.dtype() == DType::kF32) {
        finish<T, float>(bias_O, o, rows, sums, y_TO);
      } else {
        finish<T, T>(bias_O, o, rows, sums, y_TO);
      }
    }
  }
}

template <class Isa>
void forward(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O, Tensor& y_TO) {
  if (x_TI.dtype() == DType::kF32) {
    forward_typed<Isa, float>(x_TI, w_OI, bias_O, y_TO);
  } else {
    forward_typed<Isa, bf16>(x_TI, w_OI, bias_O, y_TO);
  }
}

bool takes(const Tensor& x_TI, const Tensor& y_TO) {
  return x_TI.rows() >= 1 && x_TI.rows() <= kMostRows &&
         (x_TI.dtype() == DType::kF32 || x_TI.dtype() == DType::kBF16) &&
         (y_TO.dtype() == DType::kF32 || y_TO.dtype() == x_TI.dtype());
}
bool takes_avx2(const Tensor& x_TI, const Tensor&, const Tensor&, Tensor& y_TO) {
  return has_avx2() && takes(x_TI, y_TO);
}
bool takes_avx512(const Tensor& x_TI, const Tensor&, const Tensor&, Tensor& y_TO) {
  return has_avx512() && takes(x_TI, y_TO);
}

REGISTER_KERNEL(linear_forward, kCpu, avx2_few_rows, forward<Avx2>, .priority = 40,
                .supports = takes_avx2);
REGISTER_KERNEL(linear_forward, kCpu, avx512_few_rows, forward<Avx512>, .priority = 50,
                .supports = takes_avx512);

}  // namespace
}  // namespace ink
