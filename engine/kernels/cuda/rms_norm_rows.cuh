// What the kernels of RMSNorm share: the types that they take, and the gradient of one access.
#pragma once

#include "engine/kernels/cuda/rows.cuh"
#include "engine/kernels/cuda/visit.h"

namespace ink {

// Calls f.operator()<T, W>() with the types of the activations and of the weight.
template <class F>
void visit_norm_types(const Tensor& x, const Tensor& w, const F& f) {
  visit_device_float(x.dtype(), [&]<class T>() {
    if (w.dtype() == x.dtype()) return f.template operator()<T, T>();
    CHECK(w.dtype() == DType::kF32, "norm weight is {} beside {}", name_of(w.dtype()),
          name_of(x.dtype()));
    f.template operator()<T, float>();
  });
}

// What the gradient of one access needs: dn and h, and dh or zeros.
template <class T, int N>
struct NormAccess {
  Pack<T, N> dn, h, dh;
};

// dh may be null.
template <class T, int N>
__device__ __forceinline__ NormAccess<T, N> load_access(const T* dn, const T* h, const T* dh,
                                                        int c) {
  NormAccess<T, N> in;
  in.dn = load_pack<N>(dn + c);
  in.h = load_pack<N>(h + c);
  if (dh != nullptr) {
    in.dh = load_pack<N>(dh + c);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) in.dh.v[i] = from_float<T>(0.0f);
  }
  return in;
}

template <class T, int N>
__device__ __forceinline__ float dot_of(const NormAccess<T, N>& in, const Floats<N>& weight) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) sum += to_float(in.dn.v[i]) * weight.v[i] * to_float(in.h.v[i]);
  return sum;
}

// dx = dh + rstd * (g - x_hat * mean(g * x_hat)) with g = dn * w, x_hat = h * rstd; `mean` is
// rstd * mean(g * x_hat).
template <class T, int N>
__device__ __forceinline__ void store_input_gradient(const NormAccess<T, N>& in,
                                                     const Floats<N>& weight, float rstd,
                                                     float mean, T* dx) {
  Floats<N> out;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float slope = to_float(in.dn.v[i]) * weight.v[i] - to_float(in.h.v[i]) * mean;
    out.v[i] = to_float(in.dh.v[i]) + rstd * slope;
  }
  store_floats(dx, out);
}

}  // namespace ink
