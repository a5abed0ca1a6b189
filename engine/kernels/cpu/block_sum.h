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

// Sums map(value) over a run of elements in 16 lanes, the same ones on every instruction set.
template <class T, class Map>
inline double lane_sum(const T* values, int64_t count, const Map& map) {
  constexpr int64_t kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) lanes[k] += map(static_cast<double>(widen(values[i + k])));
  }
  for (int64_t k = 0; i < count; ++i, ++k) lanes[k] += map(static_cast<double>(widen(values[i])));
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  }
  return lanes[0];
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
      Isa::run([=] { *partial = lane_sum(values, count, map); });
    });
  });
  if (x.numel() == 0) return 0;
  return sum_in_halves(partials.data<double>(), blocks);
}

}  // namespace
}  // namespace ink
