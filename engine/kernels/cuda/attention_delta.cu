// D = rowsum(dout * out) of every row of every head, the part of attention's backward that needs no
// scores. Reads both tensors once, 16 bytes at a time where they allow it, and writes 4 bytes per
// row: a memory-bound pass. kLanes neighbours of a warp share a row. Blocks go through the heads of
// some tokens before they come to the next tokens, as the bytes lie.
#include "engine/kernels/cuda/attention_backward.h"
#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/matrix.h"
#include "engine/kernels/cuda/visit.h"

namespace ink {
namespace {

constexpr int kThreads = 256;

template <class T, int kPack, int kLanes>
__global__ void __launch_bounds__(kThreads)
    sum_rows(Matrix<const T> dout, Matrix<const T> out, int64_t tokens, uint32_t heads, int32_t dim,
             float* delta_HT) {
  const int64_t head = blockIdx.x % heads;
  const int64_t token =
      int64_t{blockIdx.x / heads} * (kThreads / kLanes) + thread_of_block() / kLanes;
  const int lane = thread_of_block() % kLanes;
  float sum = 0.0f;
  if (token < tokens) {
    const T *x = dout.row(token) + head * dim, *y = out.row(token) + head * dim;
    for (int c = lane * kPack; c < dim; c += kLanes * kPack) {
      const auto a = load_pack<kPack>(x + c), b = load_pack<kPack>(y + c);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum += to_float(a.v[i]) * to_float(b.v[i]);
    }
  }
#pragma unroll
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kFullMask, sum, lanes);
  if (token < tokens && lane == 0) delta_HT[head * tokens + token] = sum;
}

}  // namespace

Tensor attention_delta(const Tensor& dout_TC, const Tensor& out_TC, int64_t heads) {
  const int64_t tokens = out_TC.rows(), dim = heads == 0 ? 0 : out_TC.cols() / heads;
  Tensor delta_HT(out_TC.runtime(), {heads, tokens}, DType::kF32, MemoryTag::kWorkspace);
  visit_device_float(out_TC.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>, kLanes = 8, kTokens = kThreads / kLanes;
    const bool packed =
        dim % kPack == 0 && rows_on_16_bytes(dout_TC, tokens) && rows_on_16_bytes(out_TC, tokens);
    launch(cuda_backend(out_TC), "attention_delta",
           {.grid = dim3(blocks_for(blocks_for(tokens, kTokens) * heads, 1), 1, 1),
            .block = dim3(kThreads, 1, 1)},
           packed ? sum_rows<T, kPack, kLanes> : sum_rows<T, 1, kLanes>, matrix<const T>(dout_TC),
           matrix<const T>(out_TC), tokens, static_cast<uint32_t>(heads), static_cast<int32_t>(dim),
           delta_HT.data<float>());
  });
  return delta_HT;
}

}  // namespace ink
