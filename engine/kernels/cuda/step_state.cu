// The optimizer's clock and the norm it reads.
//
// Squares are added in f64, chunk by chunk and then over the chunks in a tree that depends on the
// shapes alone, so every card gives the same bits. Not-a-number and infinity propagate. Moves the
// bytes of the tensors once; 2 flops of f64 an element, which is what bounds it on cards with few
// f64 units (sm_75, sm_86, sm_89).
#include <algorithm>
#include <array>

#include "engine/kernels/cuda/matrix.h"
#include "engine/kernels/cuda/ranges.cuh"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/step_advance.h"

namespace ink {
namespace {

constexpr int kThreads = 256, kTotalThreads = 1024;
constexpr int kLoads = 4;  // accesses of a thread in flight
constexpr int64_t kPerBlock = 32768;

template <class T>
struct SquareRange {
  int64_t first_block, length;
  const T* data;
  int64_t cols, stride;  // of a row; a contiguous range is one row
  int64_t number;        // of the tensor
  bool packed;           // contiguous, from a multiple of 16 bytes
};

__device__ __forceinline__ double square(double x) { return x * x; }

template <class T>
__device__ __forceinline__ double packed_squares(const T* x, int count) {
  constexpr int N = kPackOf16Bytes<T>;
  double sums[kLoads] = {};
  for (int first = static_cast<int>(threadIdx.x) * N; first < count;
       first += kLoads * kThreads * N) {
    Pack<T, N> packs[kLoads] = {};
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int at = first + j * kThreads * N;
      if (at + N <= count) packs[j] = load_pack<N>(x + at);
    }
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
#pragma unroll
      for (int i = 0; i < N; ++i) sums[j] += square(double{to_float(packs[j].v[i])});
    }
  }
  const int tail = count / N * N + static_cast<int>(threadIdx.x);
  if (tail < count) sums[0] += square(double{to_float(x[tail])});
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    square_chunks(const SquareRange<T>* ranges, int count, double* partials) {
  const SquareRange<T> range = range_of_block(ranges, count);
  const int64_t begin = (int64_t{blockIdx.x} - range.first_block) * kPerBlock;
  const int64_t left = range.length - begin;
  const int length = static_cast<int>(left < kPerBlock ? left : kPerBlock);
  double sum = 0;
  if (range.packed) {
    sum = packed_squares(range.data + begin, length);
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < length; i += kThreads) {
      const int64_t row = (begin + i) / range.cols, column = (begin + i) % range.cols;
      sum += square(double{to_float(range.data[row * range.stride + column])});
    }
  }
  sum = block_sum(sum, shared_memory<BlockScratch<double>>());
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__device__ __forceinline__ double sum_of(const double* values, int64_t begin, int64_t end) {
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kTotalThreads) sum += values[i];
  return block_sum(sum, shared_memory<BlockScratch<double>>());
}

// A block adds up the chunks of a tensor.
template <class T>
__global__ void __launch_bounds__(kTotalThreads)
    add_chunks(const SquareRange<T>* ranges, int64_t chunks, const double* partials, double* each) {
  const SquareRange<T>& range = ranges[blockIdx.x];
  const bool last = blockIdx.x + 1 == gridDim.x;
  const double sum =
      sum_of(partials, range.first_block, last ? chunks : ranges[blockIdx.x + 1].first_block);
  if (threadIdx.x == 0) each[range.number] = sum;
}

__global__ void __launch_bounds__(kTotalThreads)
    add_tensors(const double* each, int64_t count, WriteMode mode, double* result) {
  const double sum = sum_of(each, 0, count);
  if (threadIdx.x == 0) *result = mode == WriteMode::kAccumulate ? *result + sum : sum;
}

template <class T>
SquareRange<T> square_range(const Tensor& x, size_t number) {
  const bool flat = x.contiguous();
  const bool aligned = reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0;
  return {.first_block = 0,
          .length = x.numel(),
          .data = x.data<T>(),
          .cols = flat ? x.numel() : x.cols(),
          .stride = x.row_stride(),
          .number = static_cast<int64_t>(number),
          .packed = flat && aligned};
}

LaunchShape shape_of(int64_t blocks, int threads) {
  return {.grid = dim3(blocks_for(blocks, 1), 1, 1),
          .block = dim3(static_cast<unsigned>(threads), 1, 1),
          .shared_bytes = static_cast<int64_t>(sizeof(BlockScratch<double>))};
}

// each_N of the tensors of one type, if there are any.
template <class T>
void squares_of_type(std::span<const Tensor> tensors, Tensor& each_N) {
  RangeList<SquareRange<T>> ranges(kPerBlock);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].dtype() == dtype_of<T>::value) ranges.add(square_range<T>(tensors[i], i));
  }
  if (ranges.count() == 0) return;
  CudaBackend& backend = cuda_backend(each_N);
  const Tensor list = ranges.upload(each_N.runtime());
  const auto* all = static_cast<const SquareRange<T>*>(list.raw());
  const Tensor partials(each_N.runtime(), {ranges.blocks()}, DType::kF64, MemoryTag::kWorkspace);
  launch(backend, "sum_squares", shape_of(ranges.blocks(), kThreads), square_chunks<T>, all,
         ranges.count(), partials.data<double>());
  launch(backend, "sum_squares", shape_of(ranges.count(), kTotalThreads), add_chunks<T>, all,
         ranges.blocks(), partials.data<double>(), each_N.data<double>());
}

void squares(std::span<const Tensor> tensors, WriteMode mode, Tensor& each_N, Tensor& sum) {
  constexpr std::array kTaken{DType::kF32, DType::kBF16, DType::kF16};
  for (const Tensor& x : tensors)
    CHECK_OP("sum_squares", std::ranges::count(kTaken, x.dtype()) == 1, "no CUDA kernel takes {}",
             name_of(x.dtype()));
  zero(each_N);  // of tensors without elements
  for (const DType dtype : kTaken)
    visit_device_float(dtype, [&]<class T>() { squares_of_type<T>(tensors, each_N); });
  launch(cuda_backend(sum), "sum_squares", shape_of(1, kTotalThreads), add_tensors,
         each_N.data<double>(), each_N.numel(), mode, sum.data<double>());
}

void squares_of_one(const Tensor& x, WriteMode mode, Tensor& sum) {
  Tensor each(sum.runtime(), {1}, DType::kF64, MemoryTag::kWorkspace);
  squares({&x, 1}, mode, each, sum);
}

void squares_of_all(std::span<const Tensor> tensors, Tensor& each_N, Tensor& sum) {
  squares(tensors, WriteMode::kOverwrite, each_N, sum);
}

__global__ void advance_clock(const double* sums, int64_t count, StepOptions options,
                              StepState* state) {
  advance(sums[0], sums[count - 1], options, *state);
}

void advance_tensor(const Tensor& sum_squares, const StepOptions& options, Tensor& state) {
  CHECK_OP("advance_step", state.bytes() == static_cast<int64_t>(sizeof(StepState)),
           "state has {} bytes, StepState has {}", state.bytes(), sizeof(StepState));
  launch(cuda_backend(state), "advance_step", {.grid = dim3(1, 1, 1), .block = dim3(1, 1, 1)},
         advance_clock, sum_squares.data<double>(), sum_squares.numel(), options,
         static_cast<StepState*>(state.raw()));
}

REGISTER_KERNEL(sum_squares, kCuda, chunks, squares_of_one);
REGISTER_KERNEL(sum_squares_many, kCuda, chunks, squares_of_all);
REGISTER_KERNEL(advance_step, kCuda, one_thread, advance_tensor);

}  // namespace
}  // namespace ink
