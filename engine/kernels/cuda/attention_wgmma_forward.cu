// Attention forward for sm_90a, head_dim 64 and 128 in bf16 and f16: the arithmetic of
// attention_flash_forward.cu with products of a warpgroup (wgmma), in the manner of
// FlashAttention-3 (Shah et al., 2024). Compiled for sm_90a alone (engine/CMakeLists.txt).
//
// 4 D flops per visible pair, two products; q and out once from memory, k and v once per tile of
// 128 rows, from L2 for all but the first. One warpgroup copies, two compute, 64 rows each:
//   * tiles of keys and values go through a ring in shared memory, handed over by barriers;
//   * the scores of a tile are multiplied while the values of the one before are, and the softmax
//     runs beside those;
//   * the two take turns to issue, so that one has the tensor cores while the other has exp2.
#include "engine/kernels/cuda/attention_flash.h"
#include "engine/kernels/cuda/attention_softmax.cuh"
#include "engine/kernels/cuda/attention_wgmma.cuh"

namespace ink {
namespace {

template <class T, int kDim_>
struct WgmmaTiles {
  using Type = T;
  static constexpr int kDim = kDim_, kRows = kWarpgroupRows * kConsumers, kKeys = 128;
  using Keys = PanelTile<T, kKeys, kDim>;
  // Tile 2 i of the ring is keys, tile 2 i + 1 values [i * kKeys, + kKeys).
  struct Shared {
    PanelTile<T, kRows, kDim> q;
    TileRing<Keys, 4> ring;
  };
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
  static constexpr int kTurnBarrier = 1;  // one a consumer's turn is waited for at
  static_assert(kTurnBarrier + kConsumers <= kWarpsBarrier);
  int consumer_, left_;
};

template <class C>
__device__ __forceinline__ void consume(const ForwardArguments<typename C::Type>& a,
                                        const BlockPlace& place, const RowTile& rows, int tiles,
                                        typename C::Shared& shared, int consumer) {
  using T = typename C::Type;
  const int first_row = consumer * kWarpgroupRows;
  const WarpRows<kWarpgroupRows / 16> all(rows, first_row);
  const WarpRows<1> mine(rows, first_row + warp_of_block() % 4 * 16);
  const int passes = tiles / 2, seen = all.any() ? all.last_position / C::kKeys + 1 : 0;
  const float scale_log2 = a.scale * kLog2E;
  auto& ring = shared.ring;
  Turns turns(consumer, passes);
  OnlineSoftmax<1> state;
  float shrink[1][2];
  float s[1][C::kKeys / 8][4], o[1][C::kDim / 8][4];
  LeftOperand<C::kKeys / 16> p;
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
    start_transposed(s, shared.q, first_row, k);
    turns.pass();
    ptx::wgmma_wait<0>(s[0]);
    ring.release(0);
    add_scores(0);
    round_to_left<T>(s, p);
  }
  for (int pass = 1; pass < seen; ++pass) {
    const auto &k = ring.wait(2 * pass), &v = ring.wait(2 * pass - 1);
    turns.take();
    start_transposed(s, shared.q, first_row, k);
    start_registers(o, p, v);
    turns.pass();
    ptx::wgmma_wait<1>(s[0]);
    add_scores(pass);
    // The condition always holds. It keeps the wait for o behind the softmax, before which the
    // compiler would move it: nothing that it knows of orders the two.
    ring.release(2 * pass, !(state.sum[0][0] + state.sum[0][1] < 0.0f));
    ptx::wgmma_wait<0>(o[0], p);
    ring.release(2 * pass - 1);
    scale_rows(o, shrink);
    round_to_left<T>(s, p);
  }
  if (seen > 0) {
    start_registers(o, p, ring.wait(2 * seen - 1));
    ptx::wgmma_wait<0>(o[0], p);
    ring.release(2 * seen - 1);
  }
  // What the other consumer alone sees.
  for (int pass = seen; pass < passes; ++pass) {
    turns.take();
    turns.pass();
    ring.skip(2 * pass);
    ring.skip(2 * pass + 1);
  }
  // The warps' products with q are done: its rows make way for the result's.
  meet_warps(consumer);
  if (mine.any()) store_attention(a, place, rows, mine, state, o, shared.q);
}

template <class C>
__global__ void __launch_bounds__(kWarpgroupThreads, 1)
    forward_warpgroups(ForwardArguments<typename C::Type> a) {
  auto& shared = shared_memory<typename C::Shared>();
  const BlockPlace place(a);
  if (place.empty()) return;
  const RowTile rows = place.rows(C::kRows);
  const int tiles = (rows.keys + C::kKeys - 1) / C::kKeys * 2;
  if (thread_of_block() == 0) shared.ring.init();
  const auto produce = [&] {
    load_rows(shared.q, rows, place.group<C::kDim>(a.q));
    produce_keys<C>(a, place, rows, tiles, shared.ring);
  };
  split_warpgroups(produce,
                   [&](int consumer) { consume<C>(a, place, rows, tiles, shared, consumer); });
}

void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents& documents,
             Tensor& out_TC, Tensor& lse_HT) {
  const AttentionForward problem = packed_forward(q, k, v, documents, out_TC, lse_HT);
  visit_flash(out_TC.dtype(), q.head_dim, [&]<class T, int kDim>() {
    using C = WgmmaTiles<T, kDim>;
    launch_tiles<C>("attention_forward", problem, TileOf::kRows, C::kRows, kWarpgroupThreads,
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
