// Memory-bound: transpose_statistics reads and writes every byte once.
#include <algorithm>

#include "engine/kernels/cuda/attention_ragged.h"
#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/scan.cuh"

namespace ink {
namespace {

constexpr int kThreads = 256;

struct Strides {
  static constexpr int32_t kMost = RaggedBounds::kMostStrides;
  int64_t of[kMost];
};

// One block; a thread takes a run of documents. Those with tokens keep their order; the others come
// behind them, from the last place on, and start at the end.
__global__ void __launch_bounds__(kScanThreads)
    fill_bounds(const int32_t* cu_seqlens, int32_t documents, int32_t count, Strides strides,
                int32_t* lengths, int32_t* offsets) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t run = (documents + kScanThreads - 1) / kScanThreads;
  const int32_t begin = min(documents, thread * run), end = min(documents, begin + run);
  const int32_t tokens = cu_seqlens[documents];
  const auto start_at = [&](int32_t place, int32_t token) {
#pragma unroll
    for (int32_t n = 0; n < Strides::kMost; ++n) {
      if (n < count)
        offsets[n * int64_t{documents + 1} + place] = static_cast<int32_t>(token * strides.of[n]);
    }
  };
  const auto length_of = [&](int32_t d) { return cu_seqlens[d + 1] - cu_seqlens[d]; };
  int32_t full = 0;
  for (int32_t d = begin; d < end; ++d) full += length_of(d) > 0 ? 1 : 0;
  int32_t before = sum_before(full, shared_memory<ScanScratch>());
  for (int32_t d = begin; d < end; ++d) {
    const int32_t length = length_of(d);
    const int32_t place = length > 0 ? before++ : documents - 1 - (d - before);
    lengths[place] = length;
    start_at(place, length > 0 ? cu_seqlens[d] : tokens);
  }
  if (thread == 0) start_at(documents, tokens);
}

constexpr int kSide = 32, kSideRows = kThreads / kSide;
struct TransposeShared {
  float tile[kSide][kSide + 1];
};

__global__ void __launch_bounds__(kThreads)
    transpose_tiles(const float* from, float* to, int64_t rows, int64_t columns) {
  auto& shared = shared_memory<TransposeShared>();
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  const int64_t row = int64_t{blockIdx.y} * kSide, column = int64_t{blockIdx.x} * kSide;
  for (int i = y; i < kSide; i += kSideRows) {
    if (row + i < rows && column + x < columns)
      shared.tile[i][x] = from[(row + i) * columns + column + x];
  }
  __syncthreads();
  for (int i = y; i < kSide; i += kSideRows) {
    if (column + i < columns && row + x < rows)
      to[(column + i) * rows + row + x] = shared.tile[x][i];
  }
}

}  // namespace

RaggedBounds ragged_bounds(const Documents& documents, std::span<const int64_t> strides) {
  const Tensor& cu_seqlens = documents.cu_seqlens;
  const int64_t count = cu_seqlens.numel() - 1, kinds = static_cast<int64_t>(strides.size());
  CHECK(strides.size() <= RaggedBounds::kMostStrides, "{} strides", kinds);
  Runtime& runtime = cu_seqlens.runtime();
  const RaggedBounds bounds{
      Tensor(runtime, {count}, DType::kI32, MemoryTag::kWorkspace),
      Tensor(runtime, {kinds, count + 1}, DType::kI32, MemoryTag::kWorkspace)};
  Strides given{};
  std::copy(strides.begin(), strides.end(), given.of);
  launch(cuda_backend(cu_seqlens), "attention_bounds",
         {.grid = dim3(1, 1, 1),
          .block = dim3(kScanThreads, 1, 1),
          .shared_bytes = sizeof(ScanScratch)},
         fill_bounds, cu_seqlens.data<int32_t>(), static_cast<int32_t>(count),
         static_cast<int32_t>(kinds), given, bounds.lengths.data<int32_t>(),
         bounds.offsets.data<int32_t>());
  return bounds;
}

void transpose_statistics(const Tensor& from, Tensor& to) {
  launch(cuda_backend(to), "attention_statistics",
         {.grid = dim3(blocks_for(from.cols(), kSide), blocks_for(from.rows(), kSide), 1),
          .block = dim3(kThreads, 1, 1),
          .shared_bytes = sizeof(TransposeShared)},
         transpose_tiles, from.data<float>(), to.data<float>(), from.rows(), from.cols());
}

}  // namespace ink
