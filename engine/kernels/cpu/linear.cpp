// Linear by the packed GEMM, one candidate per instruction set; every float type, any strides.
#include "engine/core/cpu_features.h"
#include "engine/kernels/cpu/linear_gemm.h"

namespace ink {
namespace {

struct Plain {
  static void run(Runtime& runtime, const Gemm& gemm) {
    if (gemm.a.dtype == DType::kF64) {
      gemm_packed(runtime, gemm, gemm_kernels_plain_f64());
    } else {
      gemm_packed(runtime, gemm, gemm_kernels_plain_f32());
    }
  }
};
struct Avx2 {
  static void run(Runtime& runtime, const Gemm& gemm) {
    gemm_packed(runtime, gemm, gemm_kernels_avx2());
  }
  static bool takes(const Tensor& x) { return has_avx2() && x.dtype() != DType::kF64; }
};
struct Avx512 {
  static void run(Runtime& runtime, const Gemm& gemm) {
    gemm_packed(runtime, gemm, gemm_kernels_avx512());
  }
  static bool takes(const Tensor& x) { return has_avx512() && x.dtype() != DType::kF64; }
};

template <class Isa>
void forward(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O, Tensor& y_TO) {
  Isa::run(y_TO.runtime(), forward_gemm(x_TI, w_OI, bias_O, y_TO));
}
template <class Isa>
bool takes_forward(const Tensor& x_TI, const Tensor&, const Tensor&, Tensor&) {
  return Isa::takes(x_TI);
}

template <class Isa>
void backward_input(const Tensor& dy_TO, const Tensor& w_OI, WriteMode mode, Tensor& dx_TI) {
  Isa::run(dx_TI.runtime(), input_gemm(dy_TO, w_OI, mode, dx_TI));
}
template <class Isa>
bool takes_input(const Tensor& dy_TO, const Tensor&, const WriteMode&, Tensor&) {
  return Isa::takes(dy_TO);
}

template <class Isa>
void backward_weight(const Tensor& dy_TO, const Tensor& x_TI, WriteMode mode, Tensor& dw_OI) {
  Isa::run(dw_OI.runtime(), weight_gemm(dy_TO, x_TI, mode, dw_OI));
}
template <class Isa>
bool takes_weight(const Tensor& dy_TO, const Tensor&, const WriteMode&, Tensor&) {
  return Isa::takes(dy_TO);
}

REGISTER_KERNEL(linear_forward, kCpu, plain, forward<Plain>);
REGISTER_KERNEL(linear_forward, kCpu, avx2, forward<Avx2>, .priority = 10,
                .supports = takes_forward<Avx2>);
REGISTER_KERNEL(linear_forward, kCpu, avx512, forward<Avx512>, .priority = 20,
                .supports = takes_forward<Avx512>);
REGISTER_KERNEL(linear_backward_input, kCpu, plain, backward_input<Plain>);
REGISTER_KERNEL(linear_backward_input, kCpu, avx2, backward_input<Avx2>, .priority = 10,
                .supports = takes_input<Avx2>);
REGISTER_KERNEL(linear_backward_input, kCpu, avx512, backward_input<Avx512>, .priority = 20,
                .supports = takes_input<Avx512>);
REGISTER_KERNEL(linear_backward_weight, kCpu, plain, backward_weight<Plain>);
REGISTER_KERNEL(linear_backward_weight, kCpu, avx2, backward_weight<Avx2>, .priority = 10,
                .supports = takes_weight<Avx2>);
REGISTER_KERNEL(linear_backward_weight, kCpu, avx512, backward_weight<Avx512>, .priority = 20,
                .supports = takes_weight<Avx512>);

}  // namespace
}  // namespace ink
