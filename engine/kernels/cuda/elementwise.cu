// Addition, sums in a fixed order, broadcast of a scalar. Bytes: 3, 1 and 1 passes over memory; at
// most one flop an element.
#include "engine/kernels/cuda/map.cuh"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/elementwise.h"

namespace ink {
namespace {

void add_all(const Tensor& a, const Tensor& b, Tensor& y) {
  visit_device_float(a.dtype(), [&]<class T>() { map<T, T, T>("add_forward", Plus{}, y, a, b); });
}

constexpr int64_t kSumBlocks = 1024;  // which elements a block sums depends on the shape alone

// Accesses are summed in f32, everything above them in f64.
template <class T, int N>
__global__ void sum_blocks(int64_t rows, int64_t cols, Matrix<const T> x, double* partial) {
  const int64_t per_row = cols / N, count = rows * per_row;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  double sum = 0;
#pragma unroll 4
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const int64_t r = rows == 1 ? 0 : i / per_row;
    const Floats<N> in = load_floats<N>(x.row(r) + (i - r * per_row) * N);
    float access = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) access += in.v[k];
    sum += static_cast<double>(access);
  }
  sum = block_sum(sum, shared_memory<BlockScratch<double>>());
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <class T>
__global__ void sum_partial(int64_t count, const double* partial, T* y) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum, shared_memory<BlockScratch<double>>());
  if (threadIdx.x == 0) *y = from_float<T>(static_cast<float>(sum));
}

void sum_all(const Tensor& x, Tensor& y) {
  CudaBackend& backend = cuda_backend(y);
  const dim3 threads(kElementwiseThreads, 1, 1);
  const int64_t scratch = sizeof(BlockScratch<double>);
  int64_t blocks = 0;
  Tensor partial(x.runtime(), {kSumBlocks}, DType::kF64, MemoryTag::kWorkspace);
  visit_device_float(x.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const ElementwiseShape shape = elementwise_shape(kPack, x);
    const int per_access = shape.packed ? kPack : 1;
    blocks = std::min<int64_t>(
        kSumBlocks, blocks_for(shape.rows * shape.cols, int64_t{per_access} * kElementwiseThreads));
    launch(backend, "sum_forward",
           {.grid = dim3(static_cast<unsigned>(blocks), 1, 1),
            .block = threads,
            .shared_bytes = scratch},
           shape.packed ? sum_blocks<T, kPack> : sum_blocks<T, 1>, shape.rows, shape.cols,
           matrix<const T>(x), partial.data<double>());
  });
  visit_device_float(y.dtype(), [&]<class T>() {
    launch(backend, "sum_forward",
           {.grid = dim3(1, 1, 1), .block = threads, .shared_bytes = scratch}, sum_partial<T>,
           blocks, partial.data<double>(), y.data<T>());
  });
}

// The value of one element in device memory, everywhere.
template <class From>
struct ScalarAt {
  const From* scalar;
  __device__ float operator()() const { return to_float(*scalar); }
};

void broadcast(const Tensor& scalar, Tensor& y) {
  visit_device_float(scalar.dtype(), [&]<class From>() {
    visit_device_float(y.dtype(), [&]<class To>() {
      map<To>("broadcast_scalar", ScalarAt<From>{scalar.data<From>()}, y);
    });
  });
}

REGISTER_KERNEL(add_forward, kCuda, packed, add_all);
REGISTER_KERNEL(sum_forward, kCuda, two_stages, sum_all);
REGISTER_KERNEL(broadcast_scalar, kCuda, packed, broadcast);

}  // namespace
}  // namespace ink
