// y = f(x...) element by element over matrices: one read of every operand, one write of the result.
// y may be the memory of an operand.
#pragma once

#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/rows.cuh"

namespace ink {

// f takes and gives floats; the result is rounded to To once.
template <int N, class To, class F, class... From>
__global__ void map_elements(int64_t rows, int64_t cols, F f, Matrix<To> y,
                             Matrix<const From>... x) {
  for_elements<N>(rows, cols, [&](int64_t r, int64_t c) {
    const auto apply = [&](const auto&... in) {
      Floats<N> out;
#pragma unroll
      for (int i = 0; i < N; ++i) out.v[i] = f(in.v[i]...);
      store_floats(y.row(r) + c, out);
    };
    apply(load_floats<N>(x.row(r) + c)...);
  });
}

// Operands as types and tensors: map<To, From...>("op", f, y, x...).
template <class To, class... From, class F, class... Tensors>
void map(const char* op, F f, const Tensor& y, const Tensors&... x) {
  static_assert(sizeof...(From) == sizeof...(Tensors));
  constexpr int kNarrowest = std::min({int{sizeof(To)}, int{sizeof(From)}...});
  constexpr int kPack = 16 / kNarrowest;
  const ElementwiseShape shape = elementwise_shape(kPack, y, x...);
  launch(cuda_backend(y), op, elementwise_launch(shape, shape.packed ? kPack : 1),
         shape.packed ? map_elements<kPack, To, F, From...> : map_elements<1, To, F, From...>,
         shape.rows, shape.cols, f, matrix<To>(y), matrix<const From>(x)...);
}

// What several ops map.
struct Plus {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Constant {
  float value;
  __device__ float operator()() const { return value; }
};

}  // namespace ink
