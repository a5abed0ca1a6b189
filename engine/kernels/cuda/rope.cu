// Rotary tables and rotation in place. The rotation reads and writes every rotated element once,
// and the table (f32, shared by all heads of a token) once from memory; 3 flops an element. The
// table is made once per batch, in f64: a cosine and a sine per pair of elements of a head.
#include "engine/kernels/cuda/rows.cuh"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/rope.h"

namespace ink {
namespace {

constexpr int kAngleThreads = 128;
constexpr unsigned kAngleRows = 256;  // blocks along the tokens: each raises theta to a power once

__global__ void __launch_bounds__(kAngleThreads)
    angles_of(int64_t tokens, int half, const int32_t* positions, RopeOptions options,
              float* table) {
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < half;
       i += static_cast<int>(gridDim.x * blockDim.x)) {
    const double frequency =
        options.position_scale *
        pow(options.theta, -2.0 * static_cast<double>(i) / static_cast<double>(2 * half));
    for (int64_t t = blockIdx.y; t < tokens; t += gridDim.y) {
      double sine, cosine;
      sincos(static_cast<double>(positions[t]) * frequency, &sine, &cosine);
      float* row = table + t * 2 * half;
      row[i] = static_cast<float>(cosine);
      row[half + i] = static_cast<float>(sine);
    }
  }
}

void angles(const Tensor& positions_T, const RopeOptions& options, Tensor& table_TD) {
  const int half = row_columns(table_TD.cols()) / 2;
  const int64_t tokens = table_TD.rows();
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(tokens, kAngleRows));
  launch(cuda_backend(table_TD), "rope_angles",
         {.grid = dim3(blocks_for(half, kAngleThreads), blocks, 1),
          .block = dim3(kAngleThreads, 1, 1)},
         angles_of, tokens, half, positions_T.data<int32_t>(), options, table_TD.data<float>());
}

// The rotated heads of a row, numbered through all groups.
struct DeviceHeads {
  int count, rotated, group_heads, head_dim;
  __device__ int column(int head) const {
    return (head / rotated * group_heads + head % rotated) * head_dim;
  }
};

constexpr int kRotateThreads = 256;  // at most
constexpr int kPairsAtOnce = 2;

template <class T, int N>
__device__ __forceinline__ void rotate_pair(Pack<T, N>& first, Pack<T, N>& second,
                                            const Floats<N>& cosine, const Floats<N>& sine,
                                            float sign) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float a = to_float(first.v[i]), b = to_float(second.v[i]), s = sign * sine.v[i];
    first.v[i] = from_float<T>(a * cosine.v[i] - b * s);
    second.v[i] = from_float<T>(b * cosine.v[i] + a * s);
  }
}

// A block turns one row. A pair is N elements of a head's first half and the same N of its second.
template <class T, int N>
__global__ void __launch_bounds__(kRotateThreads)
    rotate_rows(DeviceHeads heads, float sign, const float* table, Matrix<T> x) {
  const int half = heads.head_dim / 2, per_head = half / N;
  const int pairs = heads.count * per_head, threads = static_cast<int>(blockDim.x);
  const float* cosines = table + int64_t{blockIdx.x} * heads.head_dim;
  T* row = x.row(blockIdx.x);
  for (int begin = static_cast<int>(threadIdx.x); begin < pairs; begin += kPairsAtOnce * threads) {
    Pack<T, N> first[kPairsAtOnce], second[kPairsAtOnce];
    Floats<N> cosine[kPairsAtOnce], sine[kPairsAtOnce];
    T* at[kPairsAtOnce];
#pragma unroll
    for (int k = 0; k < kPairsAtOnce; ++k) {
      const int pair = begin + k * threads;
      if (pair >= pairs) continue;
      const int i = pair % per_head * N;
      at[k] = row + heads.column(pair / per_head) + i;
      first[k] = load_pack<N>(at[k]);
      second[k] = load_pack<N>(at[k] + half);
      cosine[k] = load_floats<N>(cosines + i);
      sine[k] = load_floats<N>(cosines + half + i);
    }
#pragma unroll
    for (int k = 0; k < kPairsAtOnce; ++k) {
      if (begin + k * threads >= pairs) continue;
      rotate_pair(first[k], second[k], cosine[k], sine[k], sign);
      store_pack(at[k], first[k]);
      store_pack(at[k] + half, second[k]);
    }
  }
}

void rotate(const Tensor& table_TD, const RopeHeads& heads, Rotation rotation, Tensor& x_TC) {
  (void)row_columns(x_TC.cols());
  const int64_t half = heads.head_dim / 2;
  const DeviceHeads on_device{static_cast<int>(heads.groups * heads.rotated),
                              static_cast<int>(heads.rotated), static_cast<int>(heads.group_heads),
                              static_cast<int>(heads.head_dim)};
  if (on_device.count == 0) return;
  visit_device_float(x_TC.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = half % kPack == 0 && packed_rows(kPack, x_TC, table_TD);
    const int64_t pairs = on_device.count * half / (packed ? kPack : 1);
    const int64_t warps = (pairs + kPairsAtOnce * kWarpSize - 1) / (kPairsAtOnce * kWarpSize);
    const int64_t threads = std::min<int64_t>(warps * kWarpSize, kRotateThreads);
    launch(cuda_backend(x_TC), "rope_rotate",
           {.grid = dim3(blocks_for(x_TC.rows(), 1), 1, 1),
            .block = dim3(static_cast<unsigned>(threads), 1, 1)},
           packed ? rotate_rows<T, kPack> : rotate_rows<T, 1>, on_device,
           rotation == Rotation::kForward ? 1.0f : -1.0f, table_TD.data<float>(), matrix<T>(x_TC));
  });
}

REGISTER_KERNEL(rope_angles, kCuda, f64_angles, angles);
REGISTER_KERNEL(rope_rotate, kCuda, packed, rotate);

}  // namespace
}  // namespace ink
