// The bias gradient, rows filled with a bias, a bias in another dtype.
//
// db = sum of dy over its rows: T * O elements read once, 4 * O bytes written, T * O additions. The
// rows are cut into as many chunks as fill the card; each leaves its column sums in a workspace,
// and a second kernel adds the chunks in their order, so the result depends on the card's size
// alone.
#include <algorithm>

#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/linear_rows.h"
#include "engine/kernels/cuda/matrix.h"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMinRows = 64;  // of a chunk

// Threads of a block along the columns, N elements each: 128 bytes of a row in accesses of 16
// bytes.
template <int N>
inline constexpr int kLanes = N == 1 ? 32 : 8;
template <int N>
inline constexpr int kRowsAtOnce = kThreads / kLanes<N>;

template <int N>
struct ChunkSums {
  float sum[kRowsAtOnce<N>][kLanes<N> * N];
};

// partial[chunk][o] = sum of dy[t][o] over the chunk's rows; a thread takes every kRowsAtOnce-th.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    sum_chunks(int64_t rows, int64_t cols, int64_t chunk_rows, Matrix<const T> dy, float* partial) {
  auto& shared = shared_memory<ChunkSums<N>>();
  const int lane = thread_of_block() % kLanes<N>, row = thread_of_block() / kLanes<N>;
  const int64_t first = int64_t{blockIdx.x} * kLanes<N> * N, column = first + lane * N;
  const int64_t begin = int64_t{blockIdx.y} * chunk_rows;
  const int64_t end = begin + chunk_rows < rows ? begin + chunk_rows : rows;
  float sum[N] = {};
  if (column < cols) {
#pragma unroll 4
    for (int64_t t = begin + row; t < end; t += kRowsAtOnce<N>) {
      const auto pack = load_pack<N>(dy.row(t) + column);
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += to_float(pack.v[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) shared.sum[row][lane * N + i] = sum[i];
  __syncthreads();
  const int mine = thread_of_block();
  if (mine >= kLanes<N> * N || first + mine >= cols) return;
  float total = 0.0f;
#pragma unroll
  for (int r = 0; r < kRowsAtOnce<N>; ++r) total += shared.sum[r][mine];
  partial[int64_t{blockIdx.y} * cols + first + mine] = total;
}

template <class G>
__global__ void add_chunks(int64_t chunks, int64_t cols, const float* partial, WriteMode mode,
                           G* db) {
  const int64_t o = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (o >= cols) return;
  float total = 0.0f;
#pragma unroll 8
  for (int64_t c = 0; c < chunks; ++c) total += partial[c * cols + o];
  if (mode == WriteMode::kAccumulate) total += to_float(db[o]);
  db[o] = from_float<G>(total);
}

template <class B, class Y>
__global__ void fill(int64_t rows, int64_t cols, const B* bias, Matrix<Y> y) {
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const int64_t c = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (c < cols) y.row(r)[c] = from_float<Y>(bias == nullptr ? 0.0f : to_float(bias[c]));
  }
}

// The column sums of chunks of rows: f32 [chunks, O].
template <class T, int N>
Tensor sum_rows(const Tensor& dy_TO) {
  CudaBackend& backend = cuda_backend(dy_TO);
  const int64_t rows = dy_TO.rows(), cols = dy_TO.cols();
  // Two blocks per multiprocessor with four loads of 16 bytes in every thread: 32 KiB under way.
  const int64_t column_blocks = blocks_for(cols, int64_t{kLanes<N>} * N);
  const int64_t wanted = int64_t{2} * backend.properties().multiProcessorCount;
  const int64_t max_chunks = std::clamp<int64_t>(blocks_for(rows, kMinRows), 1, 65535);
  const int64_t split = std::clamp<int64_t>(wanted / column_blocks, 1, max_chunks);
  const int64_t chunk_rows = blocks_for(rows, split);
  const int64_t chunks = rows == 0 ? 0 : blocks_for(rows, chunk_rows);
  Tensor partial(dy_TO.runtime(), {chunks, cols}, DType::kF32, MemoryTag::kWorkspace);
  launch(backend, "linear_backward_bias",
         {.grid = dim3(static_cast<unsigned>(column_blocks), static_cast<unsigned>(chunks), 1),
          .block = dim3(kThreads, 1, 1),
          .shared_bytes = sizeof(ChunkSums<N>)},
         sum_chunks<T, N>, rows, cols, chunk_rows, matrix<const T>(dy_TO), partial.data<float>());
  return partial;
}

void backward(const Tensor& dy_TO, WriteMode mode, Tensor& db_O) {
  const int64_t rows = dy_TO.rows(), cols = dy_TO.cols();
  if (cols == 0 || (rows == 0 && mode == WriteMode::kAccumulate)) return;
  const Tensor partial = visit_device_float(dy_TO.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = cols % kPack == 0 && rows_on_16_bytes(dy_TO, rows);
    return packed ? sum_rows<T, kPack>(dy_TO) : sum_rows<T, 1>(dy_TO);
  });
  visit_device_float(db_O.dtype(), [&]<class G>() {
    launch(cuda_backend(db_O), "linear_backward_bias",
           {.grid = dim3(blocks_for(cols, kThreads), 1, 1), .block = dim3(kThreads, 1, 1)},
           add_chunks<G>, partial.rows(), cols, static_cast<const float*>(partial.data<float>()),
           mode, db_O.data<G>());
  });
}

REGISTER_KERNEL(linear_backward_bias, kCuda, chunks, backward);

}  // namespace

void fill_rows(const Tensor& bias_O, Tensor& y_TO) {
  if (y_TO.numel() == 0) return;
  const dim3 grid(blocks_for(y_TO.cols(), kThreads),
                  static_cast<unsigned>(std::min<int64_t>(y_TO.rows(), 65535)), 1);
  const DType bias_dtype = bias_O.defined() ? bias_O.dtype() : y_TO.dtype();
  visit_device_float(bias_dtype, [&]<class B>() {
    visit_device_float(y_TO.dtype(), [&]<class Y>() {
      const B* bias = bias_O.defined() ? bias_O.data<B>() : nullptr;
      launch(cuda_backend(y_TO), "linear_fill", {.grid = grid, .block = dim3(kThreads, 1, 1)},
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
