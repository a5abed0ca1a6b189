// Rotary tables, rotation in place, and rotation on the way from a fused wqkv to q, k and v and
// back. A rotation reads and writes every element once, and the table (f32, shared by all heads of
// a token) once from memory; 3 flops an element. The table is made once per batch, in f64: a cosine
// and a sine per pair of elements of a head.
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

// A head of a row: where it is read and written.
template <class T>
struct HeadMove {
  const T* from;
  T* to;
  bool rotated;
};

template <class T>
struct InPlace {
  Matrix<T> x;
  __device__ HeadMove<T> head(int64_t row, int head, int head_dim) const {
    T* at = x.row(row) + head * head_dim;
    return {at, at, true};
  }
};

// From the row of a fused wqkv, groups of (ratio query heads, key, value), to q, k and v, or back.
template <class T, bool kSplit>
struct Fused {
  Matrix<T> qkv, q, k, v;
  int ratio;
  __device__ HeadMove<T> head(int64_t row, int head, int head_dim) const {
    const int group = head / (ratio + 2), place = head - group * (ratio + 2);
    T* fused = qkv.row(row) + head * head_dim;
    T* apart = place < ratio    ? q.row(row) + (group * ratio + place) * head_dim
               : place == ratio ? k.row(row) + group * head_dim
                                : v.row(row) + group * head_dim;
    return kSplit ? HeadMove<T>{fused, apart, place <= ratio}
                  : HeadMove<T>{apart, fused, place <= ratio};
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

struct RowShape {
  int heads, head_dim;
};

// A block turns one row. A pair is N elements of a head's first half and the same N of its second.
template <class T, int N, class Place>
__global__ void __launch_bounds__(kRotateThreads)
    rotate_rows(RowShape shape, float sign, const float* table, Place place) {
  const int half = shape.head_dim / 2, per_head = half / N;
  const int pairs = shape.heads * per_head, threads = static_cast<int>(blockDim.x);
  const float* cosines = table + int64_t{blockIdx.x} * shape.head_dim;
  for (int begin = static_cast<int>(threadIdx.x); begin < pairs; begin += kPairsAtOnce * threads) {
    Pack<T, N> first[kPairsAtOnce], second[kPairsAtOnce];
    Floats<N> cosine[kPairsAtOnce] = {}, sine[kPairsAtOnce] = {};
    T* to[kPairsAtOnce];
    bool rotated[kPairsAtOnce];
#pragma unroll
    for (int k = 0; k < kPairsAtOnce; ++k) {
      const int pair = begin + k * threads;
      if (pair >= pairs) continue;
      const int head = pair / per_head, i = (pair - head * per_head) * N;
      const auto at = place.head(blockIdx.x, head, shape.head_dim);
      to[k] = at.to + i;
      rotated[k] = at.rotated;
      first[k] = load_pack<N>(at.from + i);
      second[k] = load_pack<N>(at.from + half + i);
      cosine[k] = load_floats<N>(cosines + i);
      sine[k] = load_floats<N>(cosines + half + i);
    }
#pragma unroll
    for (int k = 0; k < kPairsAtOnce; ++k) {
      if (begin + k * threads >= pairs) continue;
      if (rotated[k]) rotate_pair(first[k], second[k], cosine[k], sine[k], sign);
      store_pack(to[k], first[k]);
      store_pack(to[k] + half, second[k]);
    }
  }
}

// x_TC: the row that every head is a part of. packed: rows of all operands but the table allow
// accesses of 16 bytes.
template <class T, class Place>
void launch_rows(const char* op, const Tensor& table_TD, const Tensor& x_TC, Rotation rotation,
                 bool packed, const Place& place) {
  constexpr int kPack = kPackOf16Bytes<T>;
  const int head_dim = row_columns(table_TD.cols()), half = head_dim / 2;
  const RowShape shape{row_columns(x_TC.cols()) / head_dim, head_dim};
  packed = packed && half % kPack == 0 && packed_rows(kPack, table_TD);
  const int64_t pairs = int64_t{shape.heads} * half / (packed ? kPack : 1);
  const int64_t warps = (pairs + kPairsAtOnce * kWarpSize - 1) / (kPairsAtOnce * kWarpSize);
  const int64_t threads = std::min<int64_t>(warps * kWarpSize, kRotateThreads);
  if (threads == 0) return;
  launch(cuda_backend(x_TC), op,
         {.grid = dim3(blocks_for(x_TC.rows(), 1), 1, 1),
          .block = dim3(static_cast<unsigned>(threads), 1, 1)},
         packed ? rotate_rows<T, kPack, Place> : rotate_rows<T, 1, Place>, shape,
         rotation == Rotation::kForward ? 1.0f : -1.0f, table_TD.data<float>(), place);
}

void rotate(const Tensor& table_TD, Rotation rotation, Tensor& x_TC) {
  visit_device_float(x_TC.dtype(), [&]<class T>() {
    launch_rows<T>("rope_rotate", table_TD, x_TC, rotation, packed_rows(kPackOf16Bytes<T>, x_TC),
                   InPlace<T>{matrix<T>(x_TC)});
  });
}

template <bool kSplit>
void move(const char* op, const Tensor& table_TD, const Tensor& qkv_TC, const Qkv& parts) {
  visit_device_float(qkv_TC.dtype(), [&]<class T>() {
    launch_rows<T>(op, table_TD, qkv_TC, kSplit ? Rotation::kForward : Rotation::kInverse,
                   packed_rows(kPackOf16Bytes<T>, qkv_TC, parts.q_TC, parts.k_TC, parts.v_TC),
                   Fused<T, kSplit>{matrix<T>(qkv_TC), matrix<T>(parts.q_TC), matrix<T>(parts.k_TC),
                                    matrix<T>(parts.v_TC),
                                    static_cast<int>(parts.q_TC.cols() / parts.k_TC.cols())});
  });
}
void split(const Tensor& table_TD, const Tensor& qkv_TC, Qkv& parts) {
  move<true>("rope_split", table_TD, qkv_TC, parts);
}
void join(const Tensor& table_TD, const Qkv& parts, Tensor& qkv_TC) {
  move<false>("rope_join", table_TD, qkv_TC, parts);
}

REGISTER_KERNEL(rope_angles, kCuda, f64_angles, angles);
REGISTER_KERNEL(rope_rotate, kCuda, packed, rotate);
REGISTER_KERNEL(rope_split, kCuda, packed, split);
REGISTER_KERNEL(rope_join, kCuda, packed, join);

}  // namespace
}  // namespace ink
