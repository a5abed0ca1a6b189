// RMSNorm, a row per block: statistics and rounding as engine/ops/rms_norm.h says. A row passes
// through registers, so every element is read and written once: 2 passes over memory forward (4
// with the residual sum), 3 or 4 backward; about 6 flops an element. Backward of a weight
// that is trained is in rms_norm_backward.cu.
#include "engine/kernels/cuda/rms_norm_rows.cuh"
#include "engine/ops/rms_norm.h"

namespace ink {
namespace {

template <class T, int N>
__device__ __forceinline__ float squares_of(const Pack<T, N>& pack) {
  const Floats<N> x = to_floats(pack);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) sum += x.v[i] * x.v[i];
  return sum;
}

__device__ __forceinline__ float inverse_rms(float squares, int C, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(C) + eps);
}

// Rounds the normalised value, multiplies by the weight, rounds again.
template <class T, class W, int N>
__device__ __forceinline__ void store_scaled(const Pack<T, N>& h, const W* w, float rstd, T* n) {
  const Floats<N> x = to_floats(h), weight = load_floats<N>(w);
  Floats<N> out;
#pragma unroll
  for (int i = 0; i < N; ++i) out.v[i] = to_float(from_float<T>(x.v[i] * rstd)) * weight.v[i];
  store_floats(n, out);
}

template <class T, class W, int N>
__global__ void __launch_bounds__(kMaxRowThreads, 1)
    forward_rows(int C, float eps, Matrix<const T> x, const W* w, Matrix<T> n, float* rstd) {
  const T* row = x.row(blockIdx.x);
  T* out = n.row(blockIdx.x);
  Pack<T, N> kept[kKeptAccesses];
  for_kept<N>(C, [&](int j, int c) { kept[j] = load_pack<N>(row + c); });
  float squares = 0;
  for_kept<N>(C, [&](int j, int) { squares += squares_of(kept[j]); });
  for_rest<N>(C, [&](int c) { squares += squares_of(load_pack<N>(row + c)); });
  squares = block_sum(squares, shared_memory<BlockScratch<float>>());
  const float inverse = inverse_rms(squares, C, eps);
  if (threadIdx.x == 0) rstd[blockIdx.x] = inverse;
  for_kept<N>(C, [&](int j, int c) { store_scaled(kept[j], w + c, inverse, out + c); });
  for_rest<N>(C, [&](int c) { store_scaled(load_pack<N>(row + c), w + c, inverse, out + c); });
}

// h = x + delta, rounded; the statistics are those of the rounded sum.
template <class T, int N>
__device__ __forceinline__ Pack<T, N> rounded_sum(const Pack<T, N>& a, const Pack<T, N>& b) {
  Pack<T, N> sum;
#pragma unroll
  for (int i = 0; i < N; ++i) sum.v[i] = from_float<T>(to_float(a.v[i]) + to_float(b.v[i]));
  return sum;
}

template <class T, class W, int N>
__global__ void __launch_bounds__(kMaxRowThreads, 1)
    add_forward_rows(int C, float eps, Matrix<const T> x, Matrix<const T> delta, const W* w,
                     Matrix<T> h, Matrix<T> n, float* rstd) {
  const T* row = x.row(blockIdx.x);
  const T* added = delta.row(blockIdx.x);
  T* sum = h.row(blockIdx.x);
  T* out = n.row(blockIdx.x);
  Pack<T, N> kept[kKeptAccesses], more[kKeptAccesses];
  for_kept<N>(C, [&](int j, int c) {
    kept[j] = load_pack<N>(row + c);
    more[j] = load_pack<N>(added + c);
  });
  float squares = 0;
  for_kept<N>(C, [&](int j, int c) {
    kept[j] = rounded_sum(kept[j], more[j]);
    store_pack(sum + c, kept[j]);
    squares += squares_of(kept[j]);
  });
  for_rest<N>(C, [&](int c) {
    const auto pack = rounded_sum(load_pack<N>(row + c), load_pack<N>(added + c));
    store_pack(sum + c, pack);
    squares += squares_of(pack);
  });
  squares = block_sum(squares, shared_memory<BlockScratch<float>>());
  const float inverse = inverse_rms(squares, C, eps);
  if (threadIdx.x == 0) rstd[blockIdx.x] = inverse;
  for_kept<N>(C, [&](int j, int c) { store_scaled(kept[j], w + c, inverse, out + c); });
  for_rest<N>(C, [&](int c) { store_scaled(load_pack<N>(sum + c), w + c, inverse, out + c); });
}

template <class T, class W, int N>
__global__ void __launch_bounds__(kMaxRowThreads, 1)
    apply_rows(int C, Matrix<const T> h, const W* w, const float* rstd, Matrix<T> n) {
  const T* row = h.row(blockIdx.x);
  T* out = n.row(blockIdx.x);
  const float inverse = rstd[blockIdx.x];
  Pack<T, N> kept[kKeptAccesses];
  for_kept<N>(C, [&](int j, int c) { kept[j] = load_pack<N>(row + c); });
  for_kept<N>(C, [&](int j, int c) { store_scaled(kept[j], w + c, inverse, out + c); });
  for_rest<N>(C, [&](int c) { store_scaled(load_pack<N>(row + c), w + c, inverse, out + c); });
}

// dx may be dn or dh: a thread writes what it alone has read.
template <class T, class W, int N>
__global__ void __launch_bounds__(kMaxRowThreads, 1)
    backward_input_rows(int C, Matrix<const T> dn, Matrix<const T> dh, Matrix<const T> h,
                        const W* w, const float* rstd, Matrix<T> dx) {
  const T* slope = dn.row(blockIdx.x);
  const T* passed = dh.data == nullptr ? nullptr : dh.row(blockIdx.x);
  const T* row = h.row(blockIdx.x);
  T* out = dx.row(blockIdx.x);
  const float inverse = rstd[blockIdx.x];
  NormAccess<T, N> kept[kKeptAccesses];
  for_kept<N>(C, [&](int j, int c) { kept[j] = load_access<T, N>(slope, row, passed, c); });
  float dot = 0;
  for_kept<N>(C, [&](int j, int c) { dot += dot_of(kept[j], load_floats<N>(w + c)); });
  for_rest<N>(C, [&](int c) {
    dot += dot_of(load_access<T, N>(slope, row, nullptr, c), load_floats<N>(w + c));
  });
  dot = block_sum(dot, shared_memory<BlockScratch<float>>());
  const float mean = dot * inverse * inverse / static_cast<float>(C);
  for_kept<N>(C, [&](int j, int c) {
    store_input_gradient(kept[j], load_floats<N>(w + c), inverse, mean, out + c);
  });
  for_rest<N>(C, [&](int c) {
    store_input_gradient(load_access<T, N>(slope, row, passed, c), load_floats<N>(w + c), inverse,
                         mean, out + c);
  });
}

void forward(const Tensor& x, const Tensor& w, float eps, Tensor& n, Tensor& rstd) {
  const int C = row_columns(x.cols());
  visit_norm_types(x, w, [&]<class T, class W>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = packed_rows(kPack, x, w, n);
    launch(cuda_backend(n), "rms_norm_forward",
           row_launch(x.rows(), C, packed ? kPack : 1, sizeof(BlockScratch<float>)),
           packed ? forward_rows<T, W, kPack> : forward_rows<T, W, 1>, C, eps, matrix<const T>(x),
           w.data<W>(), matrix<T>(n), rstd.data<float>());
  });
}

void add_forward(const Tensor& x, const Tensor& delta, const Tensor& w, float eps, Tensor& h,
                 Tensor& n, Tensor& rstd) {
  const int C = row_columns(x.cols());
  visit_norm_types(x, w, [&]<class T, class W>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = packed_rows(kPack, x, delta, w, h, n);
    launch(cuda_backend(n), "add_rms_norm_forward",
           row_launch(x.rows(), C, packed ? kPack : 1, sizeof(BlockScratch<float>)),
           packed ? add_forward_rows<T, W, kPack> : add_forward_rows<T, W, 1>, C, eps,
           matrix<const T>(x), matrix<const T>(delta), w.data<W>(), matrix<T>(h), matrix<T>(n),
           rstd.data<float>());
  });
}

void apply(const Tensor& h, const Tensor& w, const Tensor& rstd, Tensor& n) {
  const int C = row_columns(h.cols());
  visit_norm_types(h, w, [&]<class T, class W>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = packed_rows(kPack, h, w, n);
    launch(cuda_backend(n), "rms_norm_apply", row_launch(h.rows(), C, packed ? kPack : 1, 0),
           packed ? apply_rows<T, W, kPack> : apply_rows<T, W, 1>, C, matrix<const T>(h),
           w.data<W>(), rstd.data<float>(), matrix<T>(n));
  });
}

void backward_input(const Tensor& dn, const Tensor& dh, const Tensor& h, const Tensor& w,
                    const Tensor& rstd, Tensor& dx) {
  const int C = row_columns(h.cols());
  visit_norm_types(h, w, [&]<class T, class W>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = packed_rows(kPack, h, dn, dh, w, dx);
    launch(cuda_backend(dx), "rms_norm_backward_input",
           row_launch(h.rows(), C, packed ? kPack : 1, sizeof(BlockScratch<float>)),
           packed ? backward_input_rows<T, W, kPack> : backward_input_rows<T, W, 1>, C,
           matrix<const T>(dn), matrix<const T>(dh), matrix<const T>(h), w.data<W>(),
           rstd.data<float>(), matrix<T>(dx));
  });
}

REGISTER_KERNEL(rms_norm_forward, kCuda, rows, forward);
REGISTER_KERNEL(add_rms_norm_forward, kCuda, rows, add_forward);
REGISTER_KERNEL(rms_norm_apply, kCuda, rows, apply);
REGISTER_KERNEL(rms_norm_backward_input, kCuda, rows, backward_input);

}  // namespace
}  // namespace ink
