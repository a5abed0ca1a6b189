// y = silu(gate) * up and its gradients; the exponential is vectorised (vector_math.h).
#include "engine/ops/swiglu.h"

#include "engine/kernels/cpu/vector_math.h"

namespace ink {
namespace {

template <class A>
inline A sigmoid(A x) {
  return 1 / (1 + exp_lane(-x));
}

template <class Isa>
void forward(const Tensor& gate, const Tensor& up, Tensor& y) {
  visit_float(gate.dtype(), [&]<class T>() {
    for_spans(gate.rows(), gate.cols(), all_contiguous(gate, up, y),
              [&](int64_t row, int64_t column, int64_t count) {
                const T* g = at<T>(gate, row, column);
                const T* u = at<T>(up, row, column);
                T* out = at<T>(y, row, column);
                Isa::run([=] {
#pragma omp simd
                  for (int64_t i = 0; i < count; ++i) {
                    const compute_t<T> x = widen(g[i]);
                    out[i] = narrow<T>(x * sigmoid(x) * widen(u[i]));
                  }
                });
              });
  });
}

// dgate = dy * up * s * (1 + g * (1 - s)), dup = dy * g * s, s = sigmoid(g). Results may lie where
// an operand does: an element is read before it is written.
template <class Isa, bool kMakesY>
void run_backward(const Tensor& dy, const Tensor& gate, const Tensor& up, Tensor& dgate,
                  Tensor& dup, Tensor& y) {
  const bool contiguous = all_contiguous(dy, gate, up, dgate, dup) && (!kMakesY || y.contiguous());
  visit_float(gate.dtype(), [&]<class T>() {
    for_spans(gate.rows(), gate.cols(), contiguous,
              [&](int64_t row, int64_t column, int64_t count) {
                const T* d = at<T>(dy, row, column);
                const T* g = at<T>(gate, row, column);
                const T* u = at<T>(up, row, column);
                T* dg = at<T>(dgate, row, column);
                T* du = at<T>(dup, row, column);
                T* out = kMakesY ? at<T>(y, row, column) : nullptr;
                Isa::run([=] {
#pragma omp simd
                  for (int64_t i = 0; i < count; ++i) {
                    const compute_t<T> x = widen(g[i]), s = sigmoid(x), slope = widen(d[i]);
                    const compute_t<T> other = widen(u[i]);
                    dg[i] = narrow<T>(slope * other * s * (1 + x * (1 - s)));
                    du[i] = narrow<T>(slope * x * s);
                    if constexpr (kMakesY) out[i] = narrow<T>(x * s * other);
                  }
                });
              });
  });
}

template <class Isa>
void backward(const Tensor& dy, const Tensor& gate, const Tensor& up, Tensor& dgate, Tensor& dup,
              Tensor& y) {
  y.defined() ? run_backward<Isa, true>(dy, gate, up, dgate, dup, y)
              : run_backward<Isa, false>(dy, gate, up, dgate, dup, y);
}

REGISTER_KERNEL(swiglu_forward, kCpu, plain, forward<Plain>);
REGISTER_KERNEL(swiglu_forward, kCpu, avx2, forward<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(swiglu_forward, kCpu, avx512, forward<Avx512>, .priority = 20,
                .supports = on_avx512);
REGISTER_KERNEL(swiglu_backward, kCpu, plain, backward<Plain>);
REGISTER_KERNEL(swiglu_backward, kCpu, avx2, backward<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(swiglu_backward, kCpu, avx512, backward<Avx512>, .priority = 20,
                .supports = on_avx512);

}  // namespace
}  // namespace ink
