// dw_c = sum over rows of dn * h * rstd, in two stages of a fixed order: runs of 128 rows into
// partial sums, then the partial sums in f64. Reads both matrices once, 3 flops an element; the
// partial sums are 1/64 of a bf16 matrix. Nothing depends on the card.
#include "engine/kernels/cuda/rms_norm_weight.h"
#include "engine/kernels/cuda/rows.cuh"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/rms_norm.h"

namespace ink {
namespace {

constexpr int kWarps = 8;
constexpr int kRunRows = 128;  // of one block; every eighth row belongs to one warp
constexpr int kRowsAtOnce = 4;

template <int N>
struct PartialSums {
  float v[kWarps][kWarpSize * N];
};

template <class T, int N>
__device__ __forceinline__ void add_row(const Pack<T, N>& dn, const Pack<T, N>& h, float rstd,
                                        Floats<N>& sum) {
#pragma unroll
  for (int i = 0; i < N; ++i) sum.v[i] += to_float(dn.v[i]) * (to_float(h.v[i]) * rstd);
}

// A warp spans 32 * N columns; block (x, y) sums run y of rows for columns x.
template <class T, int N>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    sum_runs(int64_t rows, int64_t cols, Matrix<const T> dn, Matrix<const T> h, const float* rstd,
             Matrix<float> partial) {
  const int lane = lane_of_warp(), warp = warp_of_block();
  const int64_t begin = int64_t{blockIdx.y} * kRunRows;
  const int64_t end = min(rows, begin + kRunRows);
  const int64_t c = (int64_t{blockIdx.x} * kWarpSize + lane) * N;
  Floats<N> sum{};
  if (c < cols) {
    int64_t r = begin + warp;
    for (; r + kWarps * (kRowsAtOnce - 1) < end; r += kWarps * kRowsAtOnce) {
      Pack<T, N> slopes[kRowsAtOnce], values[kRowsAtOnce];
#pragma unroll
      for (int k = 0; k < kRowsAtOnce; ++k) {
        slopes[k] = load_pack<N>(dn.row(r + k * kWarps) + c);
        values[k] = load_pack<N>(h.row(r + k * kWarps) + c);
      }
#pragma unroll
      for (int k = 0; k < kRowsAtOnce; ++k)
        add_row(slopes[k], values[k], rstd[r + k * kWarps], sum);
    }
    for (; r < end; r += kWarps)
      add_row(load_pack<N>(dn.row(r) + c), load_pack<N>(h.row(r) + c), rstd[r], sum);
  }
  auto& sums = shared_memory<PartialSums<N>>();
#pragma unroll
  for (int i = 0; i < N; ++i) sums.v[warp][lane * N + i] = sum.v[i];
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kWarpSize * N; i += kWarps * kWarpSize) {
    const int64_t column = int64_t{blockIdx.x} * kWarpSize * N + i;
    if (column >= cols) break;
    float total = 0;
#pragma unroll
    for (int k = 0; k < kWarps; ++k) total += sums.v[k][i];
    partial.row(blockIdx.y)[column] = total;
  }
}

constexpr int kSumWarps = 32;

// A block reads 32 columns, its warps every 32nd run each; their sums meet in shared memory.
template <class G>
__global__ void __launch_bounds__(kSumWarps* kWarpSize)
    sum_partial(int64_t runs, int64_t cols, Matrix<const float> partial, WriteMode mode, G* dw) {
  struct Sums {
    double v[kSumWarps][kWarpSize];
  };
  auto& sums = shared_memory<Sums>();
  const int lane = lane_of_warp(), warp = warp_of_block();
  const int64_t c = int64_t{blockIdx.x} * kWarpSize + lane;
  double sum = 0;
  if (c < cols) {
#pragma unroll 8
    for (int64_t run = warp; run < runs; run += kSumWarps)
      sum += static_cast<double>(partial.row(run)[c]);
  }
  sums.v[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || c >= cols) return;
  double total = mode == WriteMode::kAccumulate ? static_cast<double>(to_float(dw[c])) : 0.0;
#pragma unroll
  for (int k = 0; k < kSumWarps; ++k) total += sums.v[k][lane];
  dw[c] = from_float<G>(static_cast<float>(total));
}

void backward_weight(const Tensor& dn, const Tensor& h, const Tensor& rstd, WriteMode mode,
                     Tensor& dw) {
  CudaBackend& backend = cuda_backend(dw);
  const int64_t rows = h.rows(), cols = h.cols(), runs = blocks_for(rows, kRunRows);
  CHECK_OP("rms_norm_backward_weight", runs <= 65535, "{} rows", rows);
  Tensor partial(h.runtime(), {runs, cols}, DType::kF32, MemoryTag::kWorkspace);
  visit_device_float(h.dtype(), [&]<class T>() {
    const auto sum = [&]<int N>() {
      launch(backend, "rms_norm_backward_weight",
             {.grid = dim3(blocks_for(cols, kWarpSize * N), static_cast<unsigned>(runs), 1),
              .block = dim3(kWarps * kWarpSize, 1, 1),
              .shared_bytes = sizeof(PartialSums<N>)},
             sum_runs<T, N>, rows, cols, matrix<const T>(dn), matrix<const T>(h),
             rstd.data<float>(), matrix<float>(partial));
    };
    packed_rows(kPackOf16Bytes<T>, h, dn) ? sum.template operator()<kPackOf16Bytes<T>>()
                                          : sum.template operator()<1>();
  });
  add_norm_runs(partial, mode, dw);
}

REGISTER_KERNEL(rms_norm_backward_weight, kCuda, two_stages, backward_weight);

}  // namespace

void add_norm_runs(const Tensor& partial, WriteMode mode, Tensor& dw_C) {
  visit_device_float(dw_C.dtype(), [&]<class G>() {
    launch(cuda_backend(dw_C), "rms_norm_backward_weight",
           {.grid = dim3(blocks_for(partial.cols(), kWarpSize), 1, 1),
            .block = dim3(kSumWarps * kWarpSize, 1, 1),
            .shared_bytes = kSumWarps * kWarpSize * int64_t{sizeof(double)}},
           sum_partial<G>, partial.rows(), partial.cols(), matrix<const float>(partial), mode,
           dw_C.data<G>());
  });
}

}  // namespace ink
