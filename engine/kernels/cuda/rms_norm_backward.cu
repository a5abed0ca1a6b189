// Both gradients of RMSNorm in one pass: a block takes a run of rows, a thread the same columns of
// each, so the weight's gradient stays in registers until the run ends. Reads dn, h and dh and
// writes dx once each: 4 passes over memory, where the two gradients after one another take 6;
// about 11 flops an element. The partial sums are 1/16 of a bf16 matrix, written and read. Nothing
// depends on the card.
//
// Rows up to 512 threads * 2 accesses wide; wider ones and those that no access of 16 bytes fits
// take the two kernels.
#include "engine/kernels/cuda/rms_norm_rows.cuh"
#include "engine/kernels/cuda/rms_norm_weight.h"
#include "engine/ops/rms_norm.h"

namespace ink {
namespace {

constexpr int kRunRows = 32;  // of one block
constexpr int kMaxAccesses = 2;

// One value per warp, twice: the next sum does not wait for those who still read this one.
struct RunScratch {
  float per_warp[2][kMaxRowThreads / kWarpSize];
};

// The same sum in every thread, over the warps in their order.
__device__ __forceinline__ float sum_of_warps(float value, float* per_warp) {
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = warp_sum(value);
  if (lane_of_warp() == 0) per_warp[warp_of_block()] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < warps; ++warp) sum += per_warp[warp];
  return sum;
}

// Access j of this thread begins at column (j * blockDim.x + threadIdx.x) * N.
template <class T, int N, int kAccesses>
struct NormRow {
  NormAccess<T, N> access[kAccesses];
  float rstd;
};

template <int N, int kAccesses, class F>
__device__ __forceinline__ void for_accesses(int C, F f) {
#pragma unroll
  for (int j = 0; j < kAccesses; ++j) {
    const int c = (j * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * N;
    if (c < C) f(j, c);
  }
}

// dx may be dn or dh: a thread writes what it alone has read, and rows ahead are other memory.
template <class T, class W, int N, int kAccesses>
__global__ void __launch_bounds__(kMaxRowThreads, 1)
    backward_runs(int64_t rows, int C, Matrix<const T> dn, Matrix<const T> dh, Matrix<const T> h,
                  const W* w, const float* rstd, Matrix<T> dx, Matrix<float> partial) {
  using Row = NormRow<T, N, kAccesses>;
  constexpr bool kAhead = kAccesses == 1;  // two rows of two accesses are too many registers
  auto& scratch = shared_memory<RunScratch>();
  const int64_t begin = int64_t{blockIdx.x} * kRunRows, end = min(rows, begin + kRunRows);
  const auto load = [&](int64_t r) {
    Row row;
    row.rstd = rstd[r];
    const T* passed = dh.data == nullptr ? nullptr : dh.row(r);
    for_accesses<N, kAccesses>(C, [&](int j, int c) {
      row.access[j] = load_access<T, N>(dn.row(r), h.row(r), passed, c);
    });
    return row;
  };
  Floats<N> weight[kAccesses] = {}, sum[kAccesses] = {};
  for_accesses<N, kAccesses>(C, [&](int j, int c) { weight[j] = load_floats<N>(w + c); });
  Row row = load(begin);
#pragma unroll 1
  for (int64_t r = begin; r < end; ++r) {
    Row next{};
    if constexpr (kAhead) next = r + 1 < end ? load(r + 1) : next;
    float dot = 0;
    for_accesses<N, kAccesses>(C, [&](int j, int) { dot += dot_of(row.access[j], weight[j]); });
    dot = sum_of_warps(dot, scratch.per_warp[(r - begin) % 2]);
    const float mean = dot * row.rstd * row.rstd / static_cast<float>(C);
    for_accesses<N, kAccesses>(C, [&](int j, int c) {
      store_input_gradient(row.access[j], weight[j], row.rstd, mean, dx.row(r) + c);
#pragma unroll
      for (int i = 0; i < N; ++i)
        sum[j].v[i] +=
            to_float(row.access[j].dn.v[i]) * (to_float(row.access[j].h.v[i]) * row.rstd);
    });
    if constexpr (kAhead) {
      row = next;
    } else if (r + 1 < end) {
      row = load(r + 1);
    }
  }
  for_accesses<N, kAccesses>(
      C, [&](int j, int c) { store_floats(partial.row(blockIdx.x) + c, sum[j]); });
}

bool takes(const Tensor& dn, const Tensor& dh, const Tensor& h, const Tensor& w, const Tensor&,
           const WriteMode&, Tensor&, Tensor& dx) {
  const int64_t per_access = 16 / size_of(h.dtype());
  return h.rows() > 0 && h.cols() > 0 && h.cols() <= kMaxRowThreads * kMaxAccesses * per_access &&
         packed_rows(per_access, h, dn, dh, w, dx);
}

void backward(const Tensor& dn, const Tensor& dh, const Tensor& h, const Tensor& w,
              const Tensor& rstd, WriteMode mode, Tensor& dw, Tensor& dx) {
  const int C = row_columns(h.cols());
  const unsigned runs = blocks_for(h.rows(), kRunRows);
  const Tensor partial(h.runtime(), {runs, C}, DType::kF32, MemoryTag::kWorkspace);
  visit_norm_types(h, w, [&]<class T, class W>() {
    constexpr int N = kPackOf16Bytes<T>;
    const int accesses = C <= kMaxRowThreads * N ? 1 : kMaxAccesses;
    const unsigned threads = blocks_for(C, int64_t{accesses} * N * kWarpSize) * kWarpSize;
    launch(cuda_backend(dx), "rms_norm_backward",
           {.grid = dim3(runs, 1, 1),
            .block = dim3(threads, 1, 1),
            .shared_bytes = sizeof(RunScratch)},
           accesses == 1 ? backward_runs<T, W, N, 1> : backward_runs<T, W, N, kMaxAccesses>,
           h.rows(), C, matrix<const T>(dn), matrix<const T>(dh), matrix<const T>(h), w.data<W>(),
           rstd.data<float>(), matrix<T>(dx), matrix<float>(partial));
  });
  add_norm_runs(partial, mode, dw);
}

void in_turn(const Tensor& dn, const Tensor& dh, const Tensor& h, const Tensor& w,
             const Tensor& rstd, WriteMode mode, Tensor& dw, Tensor& dx) {
  rms_norm_backward_weight(Device::kCuda, dn, h, rstd, mode, dw);
  rms_norm_backward_input(Device::kCuda, dn, dh, h, w, rstd, dx);
}

REGISTER_KERNEL(rms_norm_backward, kCuda, runs, backward, .priority = 10, .supports = takes);
REGISTER_KERNEL(rms_norm_backward, kCuda, in_turn, in_turn);

}  // namespace
}  // namespace ink
