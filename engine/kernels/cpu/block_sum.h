// Sums of a whole tensor in f64, in a tree that depends on the shape alone: one partial sum per
// block of elements (per row where rows are strided), then halves, so the thread count changes
// no bit. Not-a-number and infinity propagate.
#pragma once

#include "engine/kernels/cpu/vector_math.h"

namespace ink {
namespace {

inline double sum_in_halves(const double* partials, int64_t count) {
  if (count <= 2) return (count > 0 ? partials[0] : 0.0) + (count > 1 ? partials[1] : 0.0);
  return sum_in_halves(partials, count / 2) +
         sum_in_halves(partials + count / 2, count - count / 2);
}

// map is applied to every element, as f64.
template <class Isa, class Map>
double block_sum(const Tensor& x, const Map& map) {
  const bool flat = x.contiguous();
  const int64_t blocks = flat ? (x.numel() + kSpan - 1) / kSpan : x.rows();
  Tensor partials(x.runtime(), {blocks}, DType::kF64, MemoryTag::kWorkspace);
  visit_float(x.dtype(), [&]<class T>() {
    for_spans(x.rows(), x.cols(), flat, [&](int64_t row, int64_t column, int64_t count) {
      const T* values = at<T>(x, row, column);
      double* partial = partials.data<double>() + (flat ? column / kSpan : row);
      Isa::run([=] {
        double total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < count; ++i) total += map(static_cast<double>(widen(values[i])));
        *partial = total;
      });
    });
  });
  if (x.numel() == 0) return 0;
  return sum_in_halves(partials.data<double>(), blocks);
}

}  // namespace
}  // namespace ink
