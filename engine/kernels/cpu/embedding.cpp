// Row lookup and its gradient. Threads share tokens forward and columns backward, so every row of
// the gradient is summed in token order whatever the number of threads.
#include "engine/ops/embedding.h"

#include <algorithm>
#include <cstring>

#include "engine/kernels/cpu/vector_math.h"

namespace ink {
namespace {

void forward(const Tensor& ids_T, const Tensor& w_VC, Tensor& y_TC) {
  const int32_t* ids = ids_T.data<int32_t>();
  const auto* w = static_cast<const char*>(w_VC.raw());
  auto* y = static_cast<char*>(y_TC.raw());
  const int64_t size = size_of(w_VC.dtype());
  const auto row_bytes = static_cast<size_t>(w_VC.cols() * size);
#pragma omp parallel for schedule(static) if (y_TC.numel() >= kParallelElements)
  for (int64_t t = 0; t < ids_T.numel(); ++t)
    std::memcpy(y + t * y_TC.row_stride() * size, w + ids[t] * w_VC.row_stride() * size, row_bytes);
}

// The columns [begin, begin + count) of the gradient.
template <class T, class G>
void backward_columns(const Tensor& dy_TC, const int32_t* ids, WriteMode mode, Tensor& dw_VC,
                      int64_t begin, int64_t count) {
  if (mode == WriteMode::kOverwrite) {
    for (int64_t v = 0; v < dw_VC.rows(); ++v) std::fill_n(at<G>(dw_VC, v, begin), count, G{});
  }
  for (int64_t t = 0; t < dy_TC.rows(); ++t) {
    const T* dy = at<T>(dy_TC, t, begin);
    G* dw = at<G>(dw_VC, ids[t], begin);
#pragma omp simd
    for (int64_t c = 0; c < count; ++c)
      dw[c] = static_cast<G>(static_cast<compute_t<G>>(dw[c]) +
                             static_cast<compute_t<G>>(static_cast<compute_t<T>>(dy[c])));
  }
}

template <class Isa>
void backward(const Tensor& dy_TC, const Tensor& ids_T, WriteMode mode, Tensor& dw_VC) {
  const int32_t* ids = ids_T.data<int32_t>();
  constexpr int64_t kLine = 16;  // columns of a share are a multiple of a cache line of f32
  const int64_t lines = (dw_VC.cols() + kLine - 1) / kLine;
  visit_float(dy_TC.dtype(), [&]<class T>() {
    visit_float(dw_VC.dtype(), [&]<class G>() {
      const int64_t shares = std::min<int64_t>(lines, thread_count());
#pragma omp parallel for schedule(static)
      for (int64_t s = 0; s < shares; ++s) {
        const int64_t begin = lines * s / shares * kLine;
        const int64_t end = std::min(lines * (s + 1) / shares * kLine, dw_VC.cols());
        Isa::run([&] { backward_columns<T, G>(dy_TC, ids, mode, dw_VC, begin, end - begin); });
      }
    });
  });
}

REGISTER_KERNEL(embedding_forward, kCpu, plain, forward);
REGISTER_KERNEL(embedding_backward, kCpu, plain, backward<Plain>);
REGISTER_KERNEL(embedding_backward, kCpu, avx2, backward<Avx2>, .priority = 10,
                .supports = on_avx2);
REGISTER_KERNEL(embedding_backward, kCpu, avx512, backward<Avx512>, .priority = 20,
                .supports = on_avx512);

}  // namespace
}  // namespace ink
