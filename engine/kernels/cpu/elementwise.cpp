// Addition, sums in a fixed tree, broadcast of a scalar.
#include "engine/ops/elementwise.h"

#include "engine/kernels/cpu/block_sum.h"
#include "engine/kernels/cpu/vector_math.h"

namespace ink {
namespace {

template <class Isa>
void add_all(const Tensor& a, const Tensor& b, Tensor& y) {
  visit_float(a.dtype(), [&]<class T>() {
    for_spans(a.rows(), a.cols(), all_contiguous(a, b, y),
              [&](int64_t row, int64_t column, int64_t count) {
                const T* left = at<T>(a, row, column);
                const T* right = at<T>(b, row, column);
                T* out = at<T>(y, row, column);
                Isa::run([=] {
#pragma omp simd
                  for (int64_t i = 0; i < count; ++i)
                    out[i] = narrow<T>(widen(left[i]) + widen(right[i]));
                });
              });
  });
}

template <class Isa>
void sum_all(const Tensor& x, Tensor& y) {
  const double total = block_sum<Isa>(x, [](double value) { return value; });
  visit_float(y.dtype(),
              [&]<class T>() { *y.data<T>() = narrow<T>(static_cast<compute_t<T>>(total)); });
}

void broadcast(const Tensor& scalar, Tensor& y) {
  visit_float(scalar.dtype(), [&]<class From>() {
    const auto value = widen(*scalar.data<From>());
    visit_float(y.dtype(), [&]<class To>() {
      const To element = narrow<To>(static_cast<compute_t<To>>(value));
      for_spans(y.rows(), y.cols(), y.contiguous(),
                [&](int64_t row, int64_t column, int64_t count) {
                  std::fill_n(at<To>(y, row, column), count, element);
                });
    });
  });
}

REGISTER_KERNEL(add_forward, kCpu, plain, add_all<Plain>);
REGISTER_KERNEL(add_forward, kCpu, avx2, add_all<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(add_forward, kCpu, avx512, add_all<Avx512>, .priority = 20, .supports = on_avx512);
REGISTER_KERNEL(sum_forward, kCpu, plain, sum_all<Plain>);
REGISTER_KERNEL(sum_forward, kCpu, avx2, sum_all<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(sum_forward, kCpu, avx512, sum_all<Avx512>, .priority = 20, .supports = on_avx512);
REGISTER_KERNEL(broadcast_scalar, kCpu, plain, broadcast);

}  // namespace
}  // namespace ink
