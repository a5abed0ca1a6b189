// The bias gradient, rows filled with a bias, a bias in another dtype.
//
// db = sum of dy over its rows: T * O elements read once, 4 * O bytes written. The rows are cut
// into as many chunks as fill the card; each leaves its column sums in a workspace, and a second
// kernel adds the chunks in their order, so the result depends on the card's size alone.
#include <algorithm>

#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/linear_rows.h"
#include "engine/kernels/cuda/matrix.h"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

constexpr int kLanes = 32, kWarps = 8;  // of a block: lanes along the columns, warps down the rows
constexpr int64_t kLeastRows = 64;      // of a chunk

template <int N>
struct ChunkSums {
  float sum[kWarps][kLanes * N];
};

// partial[chunk][o] = sum of dy[t][o] over the chunk's rows; a warp takes every kWarps-th row.
template <class T, int N>
__global__ void sum_chunks(int64_t rows, int64_t cols, int64_t chunk_rows, Matrix<const T> dy,
                           float* partial) {
  auto& shared = shared_memory<ChunkSums<N>>();
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int64_t first = (int64_t{blockIdx.x} * kLanes + lane) * N;
  const int64_t begin = int64_t{blockIdx.y} * chunk_rows;
  const int64_t end = begin + chunk_rows < rows ? begin + chunk_rows : rows;
  float sum[N] = {};
  if (first < cols) {
#pragma unroll 4
    for (int64_t t = begin + warp; t < end; t += kWarps) {
      const auto pack = load_pack<N>(dy.row(t) + first);
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += to_float(pack.v[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) shared.sum[warp][i * kLanes + lane] = sum[i];
  __syncthreads();
  for (int i = warp; i < N; i += kWarps) {
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += shared.sum[w][i * kLanes + lane];
    if (first + i < cols) partial[int64_t{blockIdx.y} * cols + first + i] = total;
  }
}

template <class G>
__global__ void add_chunks(int64_t chunks, int64_t cols, const float* partial, bool accumulate,
                           G* db) {
  const int64_t o = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (o >= cols) return;
  float total = 0.0f;
  for (int64_t c = 0; c < chunks; ++c) total += partial[c * cols + o];
  if (accumulate) total += to_float(db[o]);
  db[o] = from_float<G>(total);
}

template <class B, class Y>
__global__ void fill(int64_t rows, int64_t cols, const B* bias, Matrix<Y> y) {
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const int64_t c = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (c < cols) y.row(r)[c] = from_float<Y>(bias == nullptr ? 0.0f : to_float(bias[c]));
  }
}

template <class T, int N>
void sum_rows(const Tensor& dy_TO, int64_t chunks, int64_t chunk_rows, Tensor& partial) {
  const dim3 grid(blocks_for(dy_TO.cols(), int64_t{kLanes} * N), static_cast<unsigned>(chunks), 1);
  launch(cuda_backend(dy_TO), "linear_backward_bias",
         {.grid = grid, .block = dim3(kLanes, kWarps, 1), .shared_bytes = sizeof(ChunkSums<N>)},
         sum_chunks<T, N>, dy_TO.rows(), dy_TO.cols(), chunk_rows, matrix<const T>(dy_TO),
         partial.data<float>());
}

void backward(const Tensor& dy_TO, WriteMode mode, Tensor& db_O) {
  CudaBackend& backend = cuda_backend(db_O);
  const int64_t rows = dy_TO.rows(), cols = dy_TO.cols();
  const bool accumulate = mode == WriteMode::kAccumulate;
  if (cols == 0 || (rows == 0 && accumulate)) return;
  // Four blocks of 256 threads per multiprocessor hide the latency of their loads.
  const int64_t column_blocks = (cols + kLanes - 1) / kLanes;
  const int64_t wanted = int64_t{4} * backend.properties().multiProcessorCount;
  const int64_t most = std::min<int64_t>((rows + kLeastRows - 1) / kLeastRows, 65535);
  const int64_t split = std::clamp<int64_t>(wanted / column_blocks, 1, std::max<int64_t>(most, 1));
  const int64_t chunk_rows = (rows + split - 1) / split;
  const int64_t chunks = rows == 0 ? 0 : (rows + chunk_rows - 1) / chunk_rows;
  Tensor partial(db_O.runtime(), {chunks, cols}, DType::kF32, MemoryTag::kWorkspace);
  visit_device_float(dy_TO.dtype(), [&]<class T>() {
    constexpr int kPair = sizeof(T) == 2 ? 2 : 1;  // a warp reads 128 bytes of a row
    const bool paired = cols % kPair == 0 && dy_TO.row_stride() % kPair == 0 &&
                        reinterpret_cast<uintptr_t>(dy_TO.raw()) % (kPair * sizeof(T)) == 0;
    (paired ? sum_rows<T, kPair> : sum_rows<T, 1>)(dy_TO, chunks, chunk_rows, partial);
  });
  visit_device_float(db_O.dtype(), [&]<class G>() {
    launch(backend, "linear_backward_bias",
           {.grid = dim3(blocks_for(cols, 256), 1, 1), .block = dim3(256, 1, 1)}, add_chunks<G>,
           chunks, cols, static_cast<const float*>(partial.data<float>()), accumulate,
           db_O.data<G>());
  });
}

REGISTER_KERNEL(linear_backward_bias, kCuda, chunks, backward);

}  // namespace

void fill_rows(const Tensor& bias_O, Tensor& y_TO) {
  if (y_TO.numel() == 0) return;
  const dim3 grid(blocks_for(y_TO.cols(), 256),
                  static_cast<unsigned>(std::min<int64_t>(y_TO.rows(), 65535)), 1);
  const DType bias_dtype = bias_O.defined() ? bias_O.dtype() : y_TO.dtype();
  visit_device_float(bias_dtype, [&]<class B>() {
    visit_device_float(y_TO.dtype(), [&]<class Y>() {
      const B* bias = bias_O.defined() ? bias_O.data<B>() : nullptr;
      launch(cuda_backend(y_TO), "linear_fill", {.grid = grid, .block = dim3(256, 1, 1)},
             fill<B, Y>, y_TO.rows(), y_TO.cols(), bias, matrix<Y>(y_TO));
    });
  });
}

Tensor copied_bias(const Tensor& bias_O, DType dtype) {
  Tensor copied(bias_O.runtime(), {1, bias_O.numel()}, dtype, MemoryTag::kWorkspace);
  fill_rows(bias_O, copied);
  return copied;
}

}  // namespace ink
