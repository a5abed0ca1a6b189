// The packed GEMM's packing and storing without intrinsics, for the plain and the AVX2 candidates.
//
// Everything lies in an anonymous namespace: a file that includes it under a target pragma gets its
// own copy, which no other file can be linked to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "engine/core/dtype.h"
#include "engine/kernels/cpu/gemm.h"

namespace ink {
namespace {

template <class T, class Acc, int kWidth>
void pack_panel(const T* x, const GemmOperand& operand, int64_t count, int64_t depth, Acc* panel) {
  if (count < kWidth) std::fill_n(panel, depth * kWidth, Acc{0});
  if (operand.depth_stride == 1) {
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t p = 0; p < depth; ++p)
        panel[p * kWidth + i] = static_cast<Acc>(x[i * operand.outer_stride + p]);
    }
  } else {
    for (int64_t p = 0; p < depth; ++p) {
      for (int64_t i = 0; i < count; ++i)
        panel[p * kWidth + i] = static_cast<Acc>(x[p * operand.depth_stride + i]);
    }
  }
}

template <class T, class Acc, int kWidth>
void pack_typed(const GemmOperand& operand, int64_t outer, int64_t count, int64_t depth_begin,
                int64_t depth, Acc* panels) {
  const T* x = static_cast<const T*>(operand.data) + outer * operand.outer_stride +
               depth_begin * operand.depth_stride;
  for (int64_t i = 0; i < count; i += kWidth)
    pack_panel<T, Acc, kWidth>(x + i * operand.outer_stride, operand,
                               std::min<int64_t>(kWidth, count - i), depth, panels + i * depth);
}

template <class Acc, int kWidth>
void pack(const GemmOperand& operand, int64_t outer, int64_t count, int64_t depth_begin,
          int64_t depth, Acc* panels) {
  if constexpr (std::is_same_v<Acc, double>) {
    pack_typed<double, Acc, kWidth>(operand, outer, count, depth_begin, depth, panels);
  } else if (operand.dtype == DType::kF32) {
    pack_typed<float, Acc, kWidth>(operand, outer, count, depth_begin, depth, panels);
  } else if (operand.dtype == DType::kBF16) {
    pack_typed<bf16, Acc, kWidth>(operand, outer, count, depth_begin, depth, panels);
  } else {
    pack_typed<f16, Acc, kWidth>(operand, outer, count, depth_begin, depth, panels);
  }
}

template <class Acc, class T>
Acc widen_to(T value) {
  return static_cast<Acc>(static_cast<compute_t<T>>(value));
}

// The bias of `count` columns, zero where there is none.
template <class Acc>
void load_bias(const GemmResult& c, int64_t col, int64_t count, Acc* bias) {
  std::fill_n(bias, count, Acc{0});
  if (c.bias == nullptr) return;
  visit_float(c.bias_dtype, [&]<class T>() {
    const T* from = static_cast<const T*>(c.bias) + col;
    for (int64_t j = 0; j < count; ++j) bias[j] = widen_to<Acc>(from[j]);
  });
}

template <class Acc, int kCols>
void store(const Acc* tile, int64_t rows, int64_t cols, const GemmResult& c, int64_t row,
           int64_t col) {
  Acc bias[kCols];
  load_bias(c, col, cols, bias);
  visit_float(c.dtype, [&]<class T>() {
    T* to = static_cast<T*>(c.data) + row * c.row_stride + col;
    for (int64_t i = 0; i < rows; ++i, to += c.row_stride, tile += kCols) {
      for (int64_t j = 0; j < cols; ++j) {
        const Acc before = c.mode == WriteMode::kAccumulate ? widen_to<Acc>(to[j]) : bias[j];
        to[j] = static_cast<T>(static_cast<compute_t<T>>(before + tile[j]));
      }
    }
  });
}

}  // namespace
}  // namespace ink
