// Row lookup and its gradient. Forward reads and writes T rows once. Backward sorts the tokens by
// id (token_order.h) and adds the rows of an id in token order, in f32, rounding once: it reads T
// rows of dy once and reads and writes every named row of the table once; an overwrite writes the
// whole table besides. Nothing depends on the card or on timing.
#include "engine/kernels/cuda/map.cuh"
#include "engine/kernels/cuda/token_order.h"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/embedding.h"

namespace ink {
namespace {

template <class T, int N>
__global__ void __launch_bounds__(kMaxRowThreads, 1)
    copy_rows(int C, const int32_t* ids, Matrix<const T> w, Matrix<T> y) {
  const T* from = w.row(ids[blockIdx.x]);
  T* to = y.row(blockIdx.x);
  Pack<T, N> kept[kKeptAccesses];
  for_kept<N>(C, [&](int j, int c) { kept[j] = load_pack<N>(from + c); });
  for_kept<N>(C, [&](int j, int c) { store_pack(to + c, kept[j]); });
  for_rest<N>(C, [&](int c) { store_pack(to + c, load_pack<N>(from + c)); });
}

void forward(const Tensor& ids_T, const Tensor& w_VC, Tensor& y_TC) {
  const int C = row_columns(w_VC.cols());
  visit_device_float(w_VC.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = packed_rows(kPack, w_VC, y_TC);
    launch(cuda_backend(y_TC), "embedding_forward",
           row_launch(ids_T.numel(), C, packed ? kPack : 1, 0),
           packed ? copy_rows<T, kPack> : copy_rows<T, 1>, C, ids_T.data<int32_t>(),
           matrix<const T>(w_VC), matrix<T>(y_TC));
  });
}

constexpr int kWarps = 8;
constexpr int kRowsAtOnce = 8;

// Rows of dy that belong to one id, in token order, added to `sum` for N columns from c on.
template <class T, int N>
__device__ __forceinline__ void add_rows(int count, int position, Matrix<const T> dy, int64_t c,
                                         bool inside, Floats<N>& sum) {
  constexpr int kAccess = std::min(N, kPackOf16Bytes<T>);
  for (int first = 0; first < count; first += kRowsAtOnce) {
    Pack<T, kAccess> rows[kRowsAtOnce][N / kAccess];
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      const int t = __shfl_sync(kFullMask, position, (first + k) % kWarpSize);
      if (!inside || first + k >= count) continue;
#pragma unroll
      for (int i = 0; i < N / kAccess; ++i)
        rows[k][i] = load_pack<kAccess>(dy.row(t) + c + i * kAccess);
    }
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      if (!inside || first + k >= count) continue;
#pragma unroll
      for (int i = 0; i < N; ++i) sum.v[i] += to_float(rows[k][i / kAccess].v[i % kAccess]);
    }
  }
}

// Warp s of the grid stands at place s of the sorted tokens; where an id begins it adds all its
// rows, 32 * N columns of them. Other warps leave.
template <class T, class G, int N>
__global__ void __launch_bounds__(kWarps* kWarpSize, 1)
    add_by_id(int64_t tokens, int64_t cols, const int32_t* ids, const int32_t* positions,
              Matrix<const T> dy, WriteMode mode, Matrix<G> dw) {
  const int lane = lane_of_warp();
  int64_t at = int64_t{blockIdx.x} * kWarps + warp_of_block();
  if (at >= tokens) return;
  const int id = ids[at];
  if (at > 0 && ids[at - 1] == id) return;
  const int64_t c = (int64_t{blockIdx.y} * kWarpSize + lane) * N;
  const bool inside = c < cols;
  Floats<N> sum{};
  if (mode == WriteMode::kAccumulate && inside) sum = load_floats<N>(dw.row(id) + c);
  for (int count = kWarpSize; count == kWarpSize; at += kWarpSize) {
    const bool same = at + lane < tokens && ids[at + lane] == id;
    count = __popc(__ballot_sync(kFullMask, same));
    add_rows<T, N>(count, same ? positions[at + lane] : 0, dy, c, inside, sum);
  }
  if (inside) store_floats(dw.row(id) + c, sum);
}

void backward(const Tensor& dy_TC, const Tensor& ids_T, WriteMode mode, Tensor& dw_VC) {
  const int64_t tokens = ids_T.numel(), cols = dw_VC.cols();
  visit_device_float(dw_VC.dtype(), [&]<class G>() {
    if (mode == WriteMode::kOverwrite) map<G>("embedding_backward", Constant{0.0f}, dw_VC);
    if (tokens == 0 || dw_VC.numel() == 0) return;
    const TokenOrder order = order_tokens(ids_T, dw_VC.rows());
    visit_device_float(dy_TC.dtype(), [&]<class T>() {
      constexpr int kPack = std::max(kPackOf16Bytes<T>, kPackOf16Bytes<G>);
      const bool packed = packed_rows(kPack, dy_TC, dw_VC);
      launch(cuda_backend(dw_VC), "embedding_backward",
             {.grid = dim3(blocks_for(tokens, kWarps),
                           blocks_for(cols, int64_t{kWarpSize} * (packed ? kPack : 1)), 1),
              .block = dim3(kWarps * kWarpSize, 1, 1)},
             packed ? add_by_id<T, G, kPack> : add_by_id<T, G, 1>, tokens, cols,
             order.ids_T.data<int32_t>(), order.positions_T.data<int32_t>(), matrix<const T>(dy_TC),
             mode, matrix<G>(dw_VC));
    });
  });
}

REGISTER_KERNEL(embedding_forward, kCuda, rows, forward);
REGISTER_KERNEL(embedding_backward, kCuda, sorted, backward);

}  // namespace
}  // namespace ink
