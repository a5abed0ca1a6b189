// Attention forward for sm_90a, head_dim 64 and 128 in bf16 and f16: the arithmetic of
// attention_flash_forward.cu with products of a warpgroup (wgmma), in the manner of
// FlashAttention-3 (Shah et al., 2024). Compiled for sm_90a alone (engine/CMakeLists.txt).
//
// 4 D flops per visible pair, two products; q and out once from memory, k and v once per tile of
// 128 rows, from L2 for all but the first. One warpgroup copies, two compute, 64 rows each:
//   * tiles of keys and values go through a ring in shared memory, handed over by barriers;
//   * the scores of a tile are multiplied while the values of the one before are, and the softmax
//   runs
//     beside those;
//   * the two take turns to issue, so that one has the tensor cores while the other has exp2.
// Copies are cp.async, not bulk tensor copies: rows of a group of heads are no box of the tensor
// where the group does not divide a tile, and rows behind the end of a document must be zeros, not
// the next document's (0 * NaN).
#include "engine/kernels/cuda/attention_flash.h"
#include "engine/kernels/cuda/attention_softmax.cuh"
#include "engine/kernels/cuda/ptx_hopper.cuh"

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "wgmma is of sm_90a: this file is compiled for compute_90a alone"
#endif

namespace ink {
namespace {

constexpr int kConsumers = 2;
constexpr int kThreads = (1 + kConsumers) * ptx::kWarpgroup;
constexpr int kWarpgroupRows = 64;
// Together 65536 for 384 threads: the compiler's even share is 168.
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;
// Named barriers: one a consumer's turn is waited for at, one that its own warps meet at.
constexpr int kTurnBarrier = 1, kWarpsBarrier = kTurnBarrier + kConsumers;
static_assert(ptx::kWarpgroup == kFlashThreads, "one warpgroup loads tiles");

// Rows of kDim elements as panels of 64 columns, 128 bytes per row, in the 128-byte swizzle.
template <class T, int kRows_, int kDim>
struct alignas(1024) PanelTile {
  static constexpr int kRows = kRows_, kChunk = 8, kChunks = kDim / kChunk;
  static constexpr int kPanelColumns = 64, kPanelChunks = kPanelColumns / kChunk;
  static constexpr int kPanel = kRows * kPanelColumns;  // elements
  T data[kRows * kDim];

  __device__ __forceinline__ T* chunk(int row, int index) {
    return data + index / kPanelChunks * kPanel + row * kPanelColumns +
           (index % kPanelChunks ^ (row & 7)) * kChunk;
  }
  // The matrix that starts at (row, column), row a multiple of 8: eight rows are 1024 bytes apart,
  // the next 64 columns a panel. What starts inside of a pattern is swizzled by its address.
  [[nodiscard]] __device__ __forceinline__ uint64_t matrix(int row, int column) const {
    const int first =
        column / kPanelColumns * kPanel + row * kPanelColumns + column % kPanelColumns;
    return ptx::swizzled_matrix(data, kPanel * sizeof(T), 8 * kPanelColumns * sizeof(T)) +
           ptx::descriptor_field(static_cast<unsigned>(first * sizeof(T)));
  }
};

template <class T, int kDim_>
struct WgmmaTiles {
  using Type = T;
  static constexpr int kDim = kDim_, kRows = kWarpgroupRows * kConsumers, kKeys = 128;
  static constexpr int kSlots = 4;
  using Keys = PanelTile<T, kKeys, kDim>;
  // Tile 2 i of the ring is keys, tile 2 i + 1 values [i * kKeys, + kKeys).
  struct Shared {
    PanelTile<T, kRows, kDim> q;
    Keys slot[kSlots];
    ptx::Barrier full[kSlots], empty[kSlots];
  };
  using Scores = float[1][kKeys / 8][4];
  using Sums = float[1][kDim / 8][4];
  using Weights = uint32_t[kKeys / 16][4];
};

// Copies q with the first tile, then every tile as its slot becomes free. One more is on its way
// while a tile is waited for.
template <class C>
__device__ __forceinline__ void produce(const ForwardArguments<typename C::Type>& a,
                                        const BlockPlace& place, const RowTile& rows, int tiles,
                                        typename C::Shared& shared) {
  using T = typename C::Type;
  const T *k = a.k.at(place.item.first_query, place.kv_head),
          *v = a.v.at(place.item.first_query, place.kv_head);
  load_rows(shared.q, rows, place.group(a.q));
  for (int tile = 0; tile < tiles; ++tile) {
    const int slot = tile % C::kSlots, use = tile / C::kSlots;
    if (use > 0) ptx::wait(shared.empty[slot], (use - 1) % 2);
    const T* from = tile % 2 == 0 ? k : v;
    const int64_t stride = tile % 2 == 0 ? a.k.row_stride : a.v.row_stride;
    const int32_t first = tile / 2 * C::kKeys, last = rows.keys - 1;
    load_tile(shared.slot[slot], rows.keys - first,
              [&](int row) { return from + (first + row < last ? first + row : last) * stride; });
    ptx::commit_copies();
    if (tile == 0) continue;
    ptx::wait_copies<1>();
    ptx::fence_for_wgmma();
    ptx::arrive(shared.full[(tile - 1) % C::kSlots]);
  }
  ptx::wait_copies<0>();
  ptx::fence_for_wgmma();
  ptx::arrive(shared.full[(tiles - 1) % C::kSlots]);
}

// The tiles of the ring as a consumer sees them.
template <class C>
struct Ring {
  typename C::Shared& shared;

  __device__ __forceinline__ const typename C::Keys& wait(int tile) const {
    const int slot = tile % C::kSlots;
    ptx::wait(shared.full[slot], tile / C::kSlots % 2);
    return shared.slot[slot];
  }
  // The warp's products with the tile are done. What `computed` needs is computed before.
  __device__ __forceinline__ void release(int tile, bool computed = true) const {
    __syncwarp();
    if (computed && lane_of_warp() == 0) ptx::arrive(shared.empty[tile % C::kSlots]);
  }
};

// The consumers issue products in turns, as many each, consumer 0 first.
class Turns {
 public:
  __device__ __forceinline__ Turns(int consumer, int turns) : consumer_(consumer), left_(turns) {
    if (consumer == kConsumers - 1) ptx::arrive_at(kTurnBarrier, kMeeting);
  }
  __device__ __forceinline__ void take() const { ptx::meet_at(kTurnBarrier + consumer_, kMeeting); }
  // Nobody waits for the last turn of the last consumer.
  __device__ __forceinline__ void pass() {
    --left_;
    if (consumer_ == 0 || left_ > 0) ptx::arrive_at(kTurnBarrier + 1 - consumer_, kMeeting);
  }

 private:
  static_assert(kConsumers == 2);
  static constexpr int kMeeting = kConsumers * ptx::kWarpgroup;
  int consumer_, left_;
};

// s = q k^T for the warpgroup's rows, under way.
template <class C>
__device__ __forceinline__ void start_scores(typename C::Scores& s, const decltype(C::Shared::q)& q,
                                             int row, const typename C::Keys& k) {
  using T = typename C::Type;
  ptx::wgmma_fence(s[0]);
  ptx::wgmma<T, false>(s[0], q.matrix(row, 0), k.matrix(0, 0));
#pragma unroll
  for (int d = 16; d < C::kDim; d += 16)
    ptx::wgmma<T, true>(s[0], q.matrix(row, d), k.matrix(0, d));
  ptx::wgmma_commit();
}

// o += p v, under way.
template <class C>
__device__ __forceinline__ void start_sums(typename C::Sums& o, typename C::Weights& p,
                                           const typename C::Keys& v) {
  ptx::wgmma_fence(o[0], p);
#pragma unroll
  for (int step = 0; step < C::kKeys / 16; ++step)
    ptx::wgmma<typename C::Type>(o[0], p[step], v.matrix(16 * step, 0));
  ptx::wgmma_commit();
}

// The fragments of an accumulator are those of a left operand.
template <class C>
__device__ __forceinline__ void round_weights(const typename C::Scores& s, typename C::Weights& p) {
#pragma unroll
  for (int step = 0; step < C::kKeys / 16; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&pair)[4] = s[0][2 * step + i / 2];
      p[step][i] = ptx::pack_pair<typename C::Type>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
    }
  }
}

template <class C>
__device__ __forceinline__ void consume(const ForwardArguments<typename C::Type>& a,
                                        const BlockPlace& place, const RowTile& rows, int tiles,
                                        typename C::Shared& shared, int consumer) {
  const int first_row = consumer * kWarpgroupRows;
  const WarpRows<kWarpgroupRows / 16> all(rows, first_row);
  const WarpRows<1> mine(rows, first_row + warp_of_block() % 4 * 16);
  const int passes = tiles / 2, seen = all.any() ? all.last_position / C::kKeys + 1 : 0;
  const float scale_log2 = a.scale * kLog2E;
  const Ring<C> ring{shared};
  Turns turns(consumer, passes);
  OnlineSoftmax<1> state;
  float shrink[1][2];
  typename C::Scores s;
  typename C::Sums o;
  typename C::Weights p;
  clear(s);  // for the compiler: the first product of a tile overwrites it
  clear(o);
  const auto add_scores = [&](int pass) {
    const int32_t first = pass * C::kKeys;
    if (first + C::kKeys - 1 > mine.first_position) mine.mask(rows, first, s);
    state.add(s, scale_log2, shrink);
  };

  if (seen > 0) {
    const auto& k = ring.wait(0);
    turns.take();
    start_scores<C>(s, shared.q, first_row, k);
    turns.pass();
    ptx::wgmma_wait<0>(s[0]);
    ring.release(0);
    add_scores(0);
    round_weights<C>(s, p);
  }
  for (int pass = 1; pass < seen; ++pass) {
    const auto &k = ring.wait(2 * pass), &v = ring.wait(2 * pass - 1);
    turns.take();
    start_scores<C>(s, shared.q, first_row, k);
    start_sums<C>(o, p, v);
    turns.pass();
    ptx::wgmma_wait<1>(s[0]);
    add_scores(pass);
    // The condition always holds. It keeps the wait for o behind the softmax, before which the
    // compiler would move it: nothing that it knows of orders the two.
    ring.release(2 * pass, !(state.sum[0][0] + state.sum[0][1] < 0.0f));
    ptx::wgmma_wait<0>(o[0], p);
    ring.release(2 * pass - 1);
    scale_rows(o, shrink);
    round_weights<C>(s, p);
  }
  if (seen > 0) {
    start_sums<C>(o, p, ring.wait(2 * seen - 1));
    ptx::wgmma_wait<0>(o[0], p);
    ring.release(2 * seen - 1);
  }
  // What the other consumer alone sees.
  for (int pass = seen; pass < passes; ++pass) {
    turns.take();
    turns.pass();
    ring.wait(2 * pass), ring.release(2 * pass);
    ring.wait(2 * pass + 1), ring.release(2 * pass + 1);
  }
  // The warps' products with q are done: its rows make way for the result's.
  ptx::meet_at(kWarpsBarrier + consumer, ptx::kWarpgroup);
  if (mine.any()) store_attention(a, place, rows, mine, state, o, shared.q);
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1)
    forward_warpgroups(ForwardArguments<typename C::Type> a) {
  auto& shared = shared_memory<typename C::Shared>();
  const BlockPlace place(a);
  if (place.empty()) return;
  const RowTile rows = place.rows(C::kRows);
  const int tiles = (rows.keys + C::kKeys - 1) / C::kKeys * 2;
  if (thread_of_block() == 0) {
#pragma unroll
    for (int slot = 0; slot < C::kSlots; ++slot) {
      ptx::init_barrier(shared.full[slot], ptx::kWarpgroup);
      ptx::init_barrier(shared.empty[slot], kConsumers * ptx::kWarpgroup / kWarpSize);
    }
  }
  __syncthreads();
  // From one lane, so that the compiler sees one value for the warp.
  const int warpgroup = __shfl_sync(kFullMask, thread_of_block() / ptx::kWarpgroup, 0);
  if (warpgroup == 0) {
    ptx::give_registers<kProducerRegisters>();
    produce<C>(a, place, rows, tiles, shared);
  } else {
    ptx::take_registers<kConsumerRegisters>();
    consume<C>(a, place, rows, tiles, shared, warpgroup - 1);
  }
}

void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents& documents,
             Tensor& out_TC, Tensor& lse_HT) {
  const AttentionForward problem = packed_forward(q, k, v, documents, out_TC, lse_HT);
  visit_flash(out_TC.dtype(), q.head_dim, [&]<class T, int kDim>() {
    using C = WgmmaTiles<T, kDim>;
    launch_tiles<C>("attention_forward", problem, TileOf::kRows, C::kRows, kThreads,
                    forward_warpgroups<C>);
  });
}

// Code for sm_90a runs on 9.0 and on nothing newer.
bool takes_forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents&,
                   Tensor&, Tensor&) {
  return cuda_backend(q.x_TC).capability() == 90 && flash_takes(q, k, v);
}

// Below flash_mma until a card has timed both: docs/gpu.md says how to choose it.
REGISTER_KERNEL(attention_forward, kCuda, flash_wgmma, forward, .priority = 5,
                .supports = takes_forward);

}  // namespace
}  // namespace ink
