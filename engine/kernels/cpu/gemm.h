// c = a * b^T (+ bias), or c += a * b^T, for the CPU kernels: the one shape that y = x * W^T,
// dx = dy * W and dW = dy^T * x all are once an operand may be read along either dimension.
//
// gemm_packed copies blocks of both operands into panels, widening 16-bit elements on the way, and
// multiplies panels with a register-blocked kernel of the given instruction set. It takes every
// float type and any mixture of them, sums in f32 (f64 for f64) in an order that depends on the
// sizes alone, and uses all threads of the caller. An empty depth gives zeros (or adds nothing).
#pragma once

#include <cstdint>

#include "engine/autograd/node.h"
#include "engine/core/dtype.h"
#include "engine/tensor/runtime.h"

namespace ink {

// Element (i, p) of an operand lies at i * outer_stride + p * depth_stride; one of the two is 1.
struct GemmOperand {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t outer_stride = 0, depth_stride = 0;
};

struct GemmResult {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t row_stride = 0;
  const void* bias = nullptr;  // n elements, of the operands' type; only with kOverwrite
  DType bias_dtype = DType::kF32;
  WriteMode mode = WriteMode::kOverwrite;
};

// a is [m, k], b is [n, k], c is [m, n].
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  GemmOperand a, b;
  GemmResult c;
};

inline constexpr int64_t kFetchStep = 4;

// The parts of the packed way that depend on the instruction set. A panel holds `width` outer
// indices of an operand (a_width for a, b_width for b): depth rows of `width` elements, zero where
// the operand has no more. A tile is a_width rows of b_width sums.
template <class Acc>
struct GemmKernels {
  int64_t a_width = 0, b_width = 0;
  // Packs `count` outer indices into as many panels as they fill, one behind the other.
  using Pack = void (*)(const GemmOperand& x, int64_t outer, int64_t count, int64_t depth_begin,
                        int64_t depth, Acc* panel);
  Pack pack_a = nullptr, pack_b = nullptr;
  // `soon`, unless it is null: a line is fetched from there every kFetchStep depths, for later.
  void (*multiply)(int64_t depth, const Acc* a_panel, const Acc* b_panel, WriteMode mode, Acc* tile,
                   const Acc* soon) = nullptr;
  // Writes rows x cols of the tile to c at (row, col), with bias, conversion and c's mode.
  void (*store)(const Acc* tile, int64_t rows, int64_t cols, const GemmResult& c, int64_t row,
                int64_t col) = nullptr;
};

[[nodiscard]] const GemmKernels<float>& gemm_kernels_avx512();
[[nodiscard]] const GemmKernels<float>& gemm_kernels_avx2();
[[nodiscard]] const GemmKernels<float>& gemm_kernels_plain_f32();
[[nodiscard]] const GemmKernels<double>& gemm_kernels_plain_f64();

template <class Acc>
void gemm_packed(Runtime& runtime, const Gemm& gemm, const GemmKernels<Acc>& kernels);

}  // namespace ink
