// db = sum of dy over its rows. Threads share the columns, so the order of a sum is the order of
// rows.
#include "engine/kernels/cpu/vector_math.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

constexpr int64_t kStrip = 256;  // columns that one thread sums at a time

template <class Isa, class T, class G>
void backward_strip(const Tensor& dy_TO, int64_t begin, int64_t count, WriteMode mode, G* db) {
  Isa::run([&] {
    compute_t<T> sum[kStrip] = {};
    for (int64_t t = 0; t < dy_TO.rows(); ++t) {
      const T* dy = static_cast<const T*>(dy_TO.raw()) + t * dy_TO.row_stride() + begin;
#pragma omp simd
      for (int64_t o = 0; o < count; ++o) sum[o] += static_cast<compute_t<T>>(dy[o]);
    }
    for (int64_t o = 0; o < count; ++o) {
      auto total = static_cast<compute_t<G>>(sum[o]);
      if (mode == WriteMode::kAccumulate) total += static_cast<compute_t<G>>(db[o]);
      db[o] = static_cast<G>(total);
    }
  });
}

template <class Isa>
void backward(const Tensor& dy_TO, WriteMode mode, Tensor& db_O) {
  const int64_t cols = dy_TO.cols();
  visit_float(dy_TO.dtype(), [&]<class T>() {
    visit_float(db_O.dtype(), [&]<class G>() {
      G* db = db_O.data<G>();
#pragma omp parallel for schedule(static) if (dy_TO.numel() >= kParallelElements)
      for (int64_t begin = 0; begin < cols; begin += kStrip)
        backward_strip<Isa, T>(dy_TO, begin, std::min(kStrip, cols - begin), mode, db + begin);
    });
  });
}

REGISTER_KERNEL(linear_backward_bias, kCpu, plain, backward<Plain>);
REGISTER_KERNEL(linear_backward_bias, kCpu, avx2, backward<Avx2>, .priority = 10,
                .supports = on_avx2);
REGISTER_KERNEL(linear_backward_bias, kCpu, avx512, backward<Avx512>, .priority = 20,
                .supports = on_avx512);

}  // namespace
}  // namespace ink
