// y = silu(gate) * up and its gradients. Reads and writes every element once: 3 (forward), 5
// (backward) or 6 (backward that makes y again) passes over memory.
#include "engine/kernels/cuda/map.cuh"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/swiglu.h"

namespace ink {
namespace {

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

struct SiluTimes {
  __device__ float operator()(float gate, float up) const { return gate * sigmoid(gate) * up; }
};

// dgate = dy * up * s * (1 + g * (1 - s)), dup = dy * g * s, s = sigmoid(g). Results may lie where
// an operand does: a thread reads its elements before it writes them.
template <class T, int N, bool kMakesY>
__global__ void backward_elements(int64_t rows, int64_t cols, Matrix<const T> dy,
                                  Matrix<const T> gate, Matrix<const T> up, Matrix<T> dgate,
                                  Matrix<T> dup, Matrix<T> y) {
  for_elements<N>(rows, cols, [&](int64_t r, int64_t c) {
    const auto d = load_pack<N>(dy.row(r) + c), g = load_pack<N>(gate.row(r) + c);
    const auto u = load_pack<N>(up.row(r) + c);
    Pack<T, N> dg, du, out;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float x = to_float(g.v[i]), s = sigmoid(x), slope = to_float(d.v[i]);
      dg.v[i] = from_float<T>(slope * to_float(u.v[i]) * s * (1.0f + x * (1.0f - s)));
      du.v[i] = from_float<T>(slope * x * s);
      if constexpr (kMakesY) out.v[i] = from_float<T>(x * s * to_float(u.v[i]));
    }
    store_pack(dgate.row(r) + c, dg);
    store_pack(dup.row(r) + c, du);
    if constexpr (kMakesY) store_pack(y.row(r) + c, out);
  });
}

void forward(const Tensor& gate, const Tensor& up, Tensor& y) {
  visit_device_float(gate.dtype(),
                     [&]<class T>() { map<T, T, T>("swiglu_forward", SiluTimes{}, y, gate, up); });
}

template <bool kMakesY>
void run_backward(const Tensor& dy, const Tensor& gate, const Tensor& up, const Tensor& dgate,
                  const Tensor& dup, const Tensor& y) {
  visit_device_float(gate.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const ElementwiseShape shape = elementwise_shape(kPack, gate, dy, up, dgate, dup, y);
    launch(cuda_backend(dup), "swiglu_backward",
           elementwise_launch(shape, shape.packed ? kPack : 1),
           shape.packed ? backward_elements<T, kPack, kMakesY> : backward_elements<T, 1, kMakesY>,
           shape.rows, shape.cols, matrix<const T>(dy), matrix<const T>(gate), matrix<const T>(up),
           matrix<T>(dgate), matrix<T>(dup), matrix<T>(y));
  });
}

void backward(const Tensor& dy, const Tensor& gate, const Tensor& up, Tensor& dgate, Tensor& dup,
              Tensor& y) {
  y.defined() ? run_backward<true>(dy, gate, up, dgate, dup, y)
              : run_backward<false>(dy, gate, up, dgate, dup, y);
}

REGISTER_KERNEL(swiglu_forward, kCuda, packed, forward);
REGISTER_KERNEL(swiglu_backward, kCuda, packed, backward);

}  // namespace
}  // namespace ink
