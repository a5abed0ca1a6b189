// Rotary tables and rotation, a row at a time. The wide candidates are the plain row inlined
// into a function of their instruction set, where the compiler makes vectors of it.
#include "engine/ops/rope.h"

#include <algorithm>
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

// All heads of `row`, side by side.
template <class T>
[[gnu::always_inline]] inline void rotate_heads(const TableType<T>* table, int64_t dim,
                                                int64_t heads, TableType<T> sign, T* row) {
  const int64_t half = dim / 2;
  for (int64_t head = 0; head < heads; ++head, row += dim)
    rotate_head(table, table + half, sign, half, row, row + half);
}

struct Plain {
  template <class T>
  static void rotate(const TableType<T>* table, int64_t dim, int64_t heads, TableType<T> sign,
                     T* row) {
    rotate_heads(table, dim, heads, sign, row);
  }
};
struct Avx2 {
  template <class T>
  [[gnu::target("avx2,fma")]] static void rotate(const TableType<T>* table, int64_t dim,
                                                 int64_t heads, TableType<T> sign, T* row) {
    rotate_heads(table, dim, heads, sign, row);
  }
};
struct Avx512 {
  template <class T>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] static void rotate(
      const TableType<T>* table, int64_t dim, int64_t heads, TableType<T> sign, T* row) {
    rotate_heads(table, dim, heads, sign, row);
  }
};

template <class T>
struct Row {
  T* data;
  int64_t stride;
  explicit Row(const Tensor& x_TC) : data(x_TC.data<T>()), stride(x_TC.row_stride()) {}
  [[nodiscard]] T* at(int64_t t) const { return data + t * stride; }
};

template <class Kernel>
void rotate(const Tensor& table_TD, Rotation rotation, Tensor& x_TC) {
  const int64_t tokens = x_TC.rows(), dim = table_TD.cols(), heads = x_TC.cols() / dim;
  visit_float(x_TC.dtype(), [&]<class T>() {
    const auto* table = table_TD.data<TableType<T>>();
    const TableType<T> sign = rotation == Rotation::kForward ? 1 : -1;
    const Row<T> x(x_TC);
#pragma omp parallel for schedule(static) if (x_TC.numel() >= kThreadedElements)
    for (int64_t t = 0; t < tokens; ++t)
      Kernel::template rotate<T>(table + t * dim, dim, heads, sign, x.at(t));
  });
}

// What one token has of one kv head: in the fused row, and apart.
template <class T>
struct Group {
  T *fused, *queries, *key, *value;
  const TableType<T>* table;
  int64_t ratio, dim;
};

template <class F>
void for_groups(const Tensor& table_TD, const Tensor& qkv_TC, const Qkv& parts, F f) {
  const int64_t tokens = qkv_TC.rows(), dim = table_TD.cols(), kv_heads = parts.k_TC.cols() / dim;
  const int64_t ratio = parts.q_TC.cols() / parts.k_TC.cols();
  visit_float(qkv_TC.dtype(), [&]<class T>() {
    const auto* table = table_TD.data<TableType<T>>();
    const Row<T> fused(qkv_TC), q(parts.q_TC), k(parts.k_TC), v(parts.v_TC);
#pragma omp parallel for schedule(static) if (qkv_TC.numel() >= kThreadedElements)
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t g = 0; g < kv_heads; ++g)
        f(Group<T>{fused.at(t) + g * (ratio + 2) * dim, q.at(t) + g * ratio * dim,
                   k.at(t) + g * dim, v.at(t) + g * dim, table + t * dim, ratio, dim});
    }
  });
}

// Heads are moved first and rotated where they lie then, in the nearest cache.
template <class Kernel>
void split(const Tensor& table_TD, const Tensor& qkv_TC, Qkv& parts) {
  for_groups(table_TD, qkv_TC, parts, []<class T>(const Group<T>& g) {
    std::copy_n(g.fused, g.ratio * g.dim, g.queries);
    std::copy_n(g.fused + g.ratio * g.dim, g.dim, g.key);
    std::copy_n(g.fused + (g.ratio + 1) * g.dim, g.dim, g.value);
    Kernel::template rotate<T>(g.table, g.dim, g.ratio, 1, g.queries);
    Kernel::template rotate<T>(g.table, g.dim, 1, 1, g.key);
  });
}

template <class Kernel>
void join(const Tensor& table_TD, const Qkv& parts, Tensor& qkv_TC) {
  for_groups(table_TD, qkv_TC, parts, []<class T>(const Group<T>& g) {
    std::copy_n(g.queries, g.ratio * g.dim, g.fused);
    std::copy_n(g.key, g.dim, g.fused + g.ratio * g.dim);
    std::copy_n(g.value, g.dim, g.fused + (g.ratio + 1) * g.dim);
    Kernel::template rotate<T>(g.table, g.dim, g.ratio + 1, -1, g.fused);
  });
}

template <class... Arguments>
bool on_avx2(Arguments&&...) {
  return has_avx2();
}
template <class... Arguments>
bool on_avx512(Arguments&&...) {
  return has_avx512();
}

REGISTER_KERNEL(rope_angles, kCpu, plain, angles);
REGISTER_KERNEL(rope_rotate, kCpu, plain, rotate<Plain>);
REGISTER_KERNEL(rope_rotate, kCpu, avx2, rotate<Avx2>, .priority = 5, .supports = on_avx2);
REGISTER_KERNEL(rope_rotate, kCpu, avx512, rotate<Avx512>, .priority = 10, .supports = on_avx512);
REGISTER_KERNEL(rope_split, kCpu, plain, split<Plain>);
REGISTER_KERNEL(rope_split, kCpu, avx2, split<Avx2>, .priority = 5, .supports = on_avx2);
REGISTER_KERNEL(rope_split, kCpu, avx512, split<Avx512>, .priority = 10, .supports = on_avx512);
REGISTER_KERNEL(rope_join, kCpu, plain, join<Plain>);
REGISTER_KERNEL(rope_join, kCpu, avx2, join<Avx2>, .priority = 5, .supports = on_avx2);
REGISTER_KERNEL(rope_join, kCpu, avx512, join<Avx512>, .priority = 10, .supports = on_avx512);

}  // namespace
}  // namespace ink
