// Rotary tables and rotation, a row of x at a time. The wide candidates are the plain row inlined
// into a function of their instruction set, where the compiler makes vectors of it.
#include "engine/ops/rope.h"

#include <cmath>
#include <type_traits>
#include <vector>

#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"

namespace ink {
namespace {

// Fewer elements are done before a second thread has woken up.
constexpr int64_t kThreadedElements = int64_t{1} << 14;

template <class T>
using TableType = std::conditional_t<std::is_same_v<T, double>, double, float>;

void angles(const Tensor& positions_T, const RopeOptions& options, Tensor& table_TD) {
  const int64_t dim = table_TD.cols(), half = dim / 2, tokens = table_TD.rows();
  std::vector<double> frequency(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i)
    frequency[static_cast<size_t>(i)] =
        options.position_scale *
        std::pow(options.theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
  const auto* positions = positions_T.data<int32_t>();
  visit_float(table_TD.dtype(), [&]<class T>() {
    T* table = table_TD.data<T>();
#pragma omp parallel for schedule(static) if (table_TD.numel() >= kThreadedElements)
    for (int64_t t = 0; t < tokens; ++t) {
      T* row = table + t * dim;
      for (int64_t i = 0; i < half; ++i) {
        const double angle = positions[t] * frequency[static_cast<size_t>(i)];
        row[i] = static_cast<T>(std::cos(angle));
        row[half + i] = static_cast<T>(std::sin(angle));
      }
    }
  });
}

// The halves of a head do not overlap.
template <class T>
[[gnu::always_inline]] inline void rotate_head(const TableType<T>* __restrict cosine,
                                               const TableType<T>* __restrict sine,
                                               TableType<T> sign, int64_t half, T* __restrict first,
                                               T* __restrict second) {
  using Real = TableType<T>;
  for (int64_t i = 0; i < half; ++i) {
    const Real a = static_cast<Real>(first[i]), b = static_cast<Real>(second[i]);
    const Real s = sign * sine[i];
    first[i] = static_cast<T>(a * cosine[i] - b * s);
    second[i] = static_cast<T>(b * cosine[i] + a * s);
  }
}

template <class T>
[[gnu::always_inline]] inline void rotate_row(const TableType<T>* table, const RopeHeads& heads,
                                              TableType<T> sign, T* row) {
  const int64_t dim = heads.head_dim, half = dim / 2;
  for (int64_t group = 0; group < heads.groups; ++group) {
    for (int64_t head = 0; head < heads.rotated; ++head) {
      T* x = row + (group * heads.group_heads + head) * dim;
      rotate_head(table, table + half, sign, half, x, x + half);
    }
  }
}

template <class T>
using RotateRow = void(const TableType<T>*, const RopeHeads&, TableType<T>, T*);

template <class T>
void rotate_plain(const TableType<T>* table, const RopeHeads& heads, TableType<T> sign, T* row) {
  rotate_row(table, heads, sign, row);
}
template <class T>
[[gnu::target("avx2,fma")]] void rotate_avx2(const TableType<T>* table, const RopeHeads& heads,
                                             TableType<T> sign, T* row) {
  rotate_row(table, heads, sign, row);
}
template <class T>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] void rotate_avx512(
    const TableType<T>* table, const RopeHeads& heads, TableType<T> sign, T* row) {
  rotate_row(table, heads, sign, row);
}

template <class T>
void rotate_rows(RotateRow<T>* rotate, const Tensor& table_TD, const RopeHeads& heads,
                 Rotation rotation, Tensor& x_TC) {
  const auto* table = table_TD.data<TableType<T>>();
  T* x = x_TC.data<T>();
  const int64_t tokens = x_TC.rows(), stride = x_TC.row_stride(), dim = heads.head_dim;
  const TableType<T> sign = rotation == Rotation::kForward ? 1 : -1;
#pragma omp parallel for schedule(static) if (x_TC.numel() >= kThreadedElements)
  for (int64_t t = 0; t < tokens; ++t) rotate(table + t * dim, heads, sign, x + t * stride);
}

void plain(const Tensor& table_TD, const RopeHeads& heads, Rotation rotation, Tensor& x_TC) {
  visit_float(x_TC.dtype(),
              [&]<class T>() { rotate_rows<T>(rotate_plain<T>, table_TD, heads, rotation, x_TC); });
}

void avx2(const Tensor& table_TD, const RopeHeads& heads, Rotation rotation, Tensor& x_TC) {
  visit_float(x_TC.dtype(),
              [&]<class T>() { rotate_rows<T>(rotate_avx2<T>, table_TD, heads, rotation, x_TC); });
}

void avx512(const Tensor& table_TD, const RopeHeads& heads, Rotation rotation, Tensor& x_TC) {
  visit_float(x_TC.dtype(), [&]<class T>() {
    rotate_rows<T>(rotate_avx512<T>, table_TD, heads, rotation, x_TC);
  });
}

bool on_avx2(const Tensor&, const RopeHeads&, const Rotation&, Tensor&) { return has_avx2(); }
bool on_avx512(const Tensor&, const RopeHeads&, const Rotation&, Tensor&) { return has_avx512(); }

REGISTER_KERNEL(rope_angles, kCpu, plain, angles);
REGISTER_KERNEL(rope_rotate, kCpu, plain, plain);
REGISTER_KERNEL(rope_rotate, kCpu, avx2, avx2, .priority = 5, .supports = on_avx2);
REGISTER_KERNEL(rope_rotate, kCpu, avx512, avx512, .priority = 10, .supports = on_avx512);

}  // namespace
}  // namespace ink
