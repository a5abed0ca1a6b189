// Row lookup and its gradient. Threads share tokens forward and columns backward. Backward takes
// the tokens by id, those of one id in their order, so every row of the gradient is summed in token
// order whatever the number of threads.
#include "engine/ops/embedding.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>
#include <vector>

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

constexpr int64_t kStrip = 256;  // columns that are summed at a time

std::vector<int64_t> tokens_by_id(const Tensor& ids_T) {
  const int32_t* ids = ids_T.data<int32_t>();
  std::vector<int64_t> tokens(static_cast<size_t>(ids_T.numel()));
  std::iota(tokens.begin(), tokens.end(), int64_t{0});
  std::ranges::stable_sort(tokens, {}, [ids](int64_t token) { return ids[token]; });
  return tokens;
}

// dw += the rows of `tokens` in `count` columns, rounded once.
template <class T, class G>
inline void add_strip(const Tensor& dy_TC, std::span<const int64_t> tokens, int64_t begin,
                      int64_t count, G* dw) {
  compute_t<G> sum[kStrip];
  for (int64_t c = 0; c < count; ++c) sum[c] = widen(dw[c]);
  for (const int64_t token : tokens) {
    const T* dy = at<T>(dy_TC, token, begin);
#pragma omp simd
    for (int64_t c = 0; c < count; ++c) sum[c] += static_cast<compute_t<G>>(widen(dy[c]));
  }
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) dw[c] = narrow<G>(sum[c]);
}

// The columns [begin, end) of the gradient.
template <class T, class G>
void backward_columns(const Tensor& dy_TC, const int32_t* ids, std::span<const int64_t> tokens,
                      WriteMode mode, Tensor& dw_VC, int64_t begin, int64_t end) {
  if (mode == WriteMode::kOverwrite) {
    for (int64_t v = 0; v < dw_VC.rows(); ++v)
      std::fill_n(at<G>(dw_VC, v, begin), end - begin, G{});
  }
  for (size_t first = 0; first < tokens.size();) {
    const int32_t id = ids[tokens[first]];
    size_t last = first + 1;
    while (last < tokens.size() && ids[tokens[last]] == id) ++last;
    for (int64_t c = begin; c < end; c += kStrip) {
      add_strip<T>(dy_TC, tokens.subspan(first, last - first), c, std::min(kStrip, end - c),
                   at<G>(dw_VC, id, c));
    }
    first = last;
  }
}

template <class Isa>
void backward(const Tensor& dy_TC, const Tensor& ids_T, WriteMode mode, Tensor& dw_VC) {
  const int32_t* ids = ids_T.data<int32_t>();
  const std::vector<int64_t> tokens = tokens_by_id(ids_T);
  constexpr int64_t kLine = 16;  // columns of a share are a multiple of a cache line of f32
  const int64_t lines = (dw_VC.cols() + kLine - 1) / kLine;
  visit_float(dy_TC.dtype(), [&]<class T>() {
    visit_float(dw_VC.dtype(), [&]<class G>() {
      const int64_t shares = std::min<int64_t>(lines, thread_count());
#pragma omp parallel for schedule(static)
      for (int64_t s = 0; s < shares; ++s) {
        const int64_t begin = lines * s / shares * kLine;
        const int64_t end = std::min(lines * (s + 1) / shares * kLine, dw_VC.cols());
        Isa::run([&] { backward_columns<T, G>(dy_TC, ids, tokens, mode, dw_VC, begin, end); });
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
