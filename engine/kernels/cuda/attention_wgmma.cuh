// What the attention kernels of warpgroups (wgmma) share: tiles in the layout that products read, a
// ring of slots by which one warpgroup that copies hands tiles to two that compute, and products
// that are started and waited for later. T is bf16 or f16; a consumer owns 64 rows of every
// product.
//
// Copies are cp.async, not bulk tensor copies: rows of a group of heads are no box of the tensor
// where the group does not divide a tile, and rows behind the end of a document must be zeros, not
// the next document's (0 * NaN).
#pragma once

#include "engine/kernels/cuda/attention_tiles.cuh"
#include "engine/kernels/cuda/ptx_hopper.cuh"

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "wgmma is of sm_90a: these kernels are compiled for compute_90a alone"
#endif

namespace ink {

inline constexpr int kConsumers = 2;
inline constexpr int kWarpgroupRows = 64;
inline constexpr int kWarpgroupThreads = (1 + kConsumers) * ptx::kWarpgroup;
// Named barriers that the warps of a consumer meet at; those before are the kernels' own.
inline constexpr int kWarpsBarrier = 1 + kConsumers;
static_assert(ptx::kWarpgroup == kFlashThreads, "one warpgroup loads tiles");

// Calls produce() in the first warpgroup and consume(which) in the others. What the block has
// written to shared memory before is seen by all.
template <class Produce, class Consume>
__device__ __forceinline__ void split_warpgroups(Produce produce, Consume consume) {
  // A block of 384 threads is given 168 each (of 65536, in steps of 8). More than their sum taken
  // would wait for ever.
  constexpr int kEvenShare = 168, kProducerRegisters = 40, kConsumerRegisters = 232;
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <=
                (1 + kConsumers) * kEvenShare);
  __syncthreads();
  // From one lane, so that the compiler sees one value for the warp.
  const int warpgroup = __shfl_sync(kFullMask, thread_of_block() / ptx::kWarpgroup, 0);
  if (warpgroup == 0) {
    ptx::give_registers<kProducerRegisters>();
    produce();
  } else {
    ptx::take_registers<kConsumerRegisters>();
    consume(warpgroup - 1);
  }
}

// The warps of a consumer have done their products: what these read may be overwritten.
__device__ __forceinline__ void meet_warps(int consumer) {
  ptx::meet_at(kWarpsBarrier + consumer, ptx::kWarpgroup);
}

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

// Tiles 0, 1, ... pass through kSlots slots in turn. Each is handed over by two barriers: `full`,
// when its copies have arrived, and `empty`, when every warp of the consumers is done with it.
template <class Slot, int kSlots>
struct TileRing {
  Slot slot[kSlots];
  ptx::Barrier full[kSlots], empty[kSlots];

  // One thread, before anything else.
  __device__ __forceinline__ void init() {
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
      ptx::init_barrier(full[i], ptx::kWarpgroup);
      ptx::init_barrier(empty[i], kConsumers * ptx::kWarpgroup / kWarpSize);
    }
  }

  // The producer's part: load(tile, slot) starts the copies of each tile as its slot becomes free.
  // kAhead more are on their way while a tile is waited for. The consumers must give back tile t
  // without waiting for one behind t + kSlots - 1 - kAhead.
  template <int kAhead, class Load>
  __device__ __forceinline__ void produce(int tiles, Load load) {
    static_assert(kAhead < kSlots);
    for (int tile = 0; tile < tiles + kAhead; ++tile) {
      if (tile < tiles) {
        const int use = tile / kSlots;
        if (use > 0) ptx::wait(empty[tile % kSlots], (use - 1) % 2);
        load(tile, slot[tile % kSlots]);
      }
      ptx::commit_copies();
      if (tile < kAhead) continue;
      ptx::wait_copies<kAhead>();
      ptx::fence_for_wgmma();
      ptx::arrive(full[(tile - kAhead) % kSlots]);
    }
  }

  __device__ __forceinline__ const Slot& wait(int tile) {
    ptx::wait(full[tile % kSlots], tile / kSlots % 2);
    return slot[tile % kSlots];
  }
  // Of a tile that was waited for.
  [[nodiscard]] __device__ __forceinline__ const Slot& at(int tile) const {
    return slot[tile % kSlots];
  }
  // The warp's products with the tile are done. What `computed` needs is computed before.
  __device__ __forceinline__ void release(int tile, bool computed = true) {
    __syncwarp();
    if (computed && lane_of_warp() == 0) ptx::arrive(empty[tile % kSlots]);
  }
  __device__ __forceinline__ void skip(int tile) { wait(tile), release(tile); }
};

// The producer of the kernels whose blocks own rows: tile 2 i is keys, tile 2 i + 1 values [i *
// C::kKeys, + C::kKeys) of what the rows see. What the block has copied before comes with tile 0.
template <class C, class Arguments, class Ring>
__device__ __forceinline__ void produce_keys(const Arguments& a, const BlockPlace& place,
                                             const RowTile& rows, int tiles, Ring& ring) {
  using T = typename C::Type;
  const T *k = a.k.at(place.item.first_query, place.kv_head),
          *v = a.v.at(place.item.first_query, place.kv_head);
  ring.template produce<1>(tiles, [&](int tile, typename C::Keys& slot) {
    const T* from = tile % 2 == 0 ? k : v;
    const int64_t stride = tile % 2 == 0 ? a.k.row_stride : a.v.row_stride;
    const int32_t first = tile / 2 * C::kKeys, last = rows.keys - 1;
    load_tile(slot, rows.keys - first,
              [&](int row) { return from + (first + row < last ? first + row : last) * stride; });
  });
}

// c = a[row, + 64) b^T over all columns, under way.
template <class T, int kN, int kRowsA, int kRowsB, int kDim>
__device__ __forceinline__ void start_transposed(float (&c)[1][kN][4],
                                                 const PanelTile<T, kRowsA, kDim>& a, int row,
                                                 const PanelTile<T, kRowsB, kDim>& b) {
  static_assert(kN * 8 == kRowsB);
  ptx::wgmma_fence(c[0]);
  ptx::wgmma<T, false>(c[0], a.matrix(row, 0), b.matrix(0, 0));
#pragma unroll
  for (int d = 16; d < kDim; d += 16) ptx::wgmma<T, true>(c[0], a.matrix(row, d), b.matrix(0, d));
  ptx::wgmma_commit();
}

// 64 rows of a left operand, 16 kSteps columns.
template <int kSteps>
using LeftOperand = uint32_t[kSteps][4];

// c += p b, under way.
template <class T, int kN, int kSteps, int kDim>
__device__ __forceinline__ void start_registers(float (&c)[1][kN][4], LeftOperand<kSteps>& p,
                                                const PanelTile<T, 16 * kSteps, kDim>& b) {
  static_assert(kN * 8 == kDim);
  ptx::wgmma_fence(c[0], p);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) ptx::wgmma<T>(c[0], p[step], b.matrix(16 * step, 0));
  ptx::wgmma_commit();
}

// c rounded to T: the fragments of an accumulator are those of a left operand.
template <class T, int kSteps>
__device__ __forceinline__ void round_to_left(const float (&c)[1][2 * kSteps][4],
                                              LeftOperand<kSteps>& p) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&pair)[4] = c[0][2 * step + i / 2];
      p[step][i] = ptx::pack_pair<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
    }
  }
}

}  // namespace ink
