// The items of an attention launch, made on the card because only it knows the lengths. One block:
// count the tiles of every cost, turn the counts into places, write. Reads 4 (S + 1) bytes and
// writes 32 per tile. Which tile of equal cost comes first may differ between runs; every tile
// writes what no other does, so results do not.
#include "engine/kernels/cuda/attention_rows.h"
#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/scan.cuh"

namespace ink {
namespace {

constexpr int kLevels = 4096;  // costs beyond are one

struct PlanShared {
  int32_t place[kLevels];
  int32_t total;
  ScanScratch scan;
};

struct PlanArguments {
  AttentionSequences sequences;
  bool of_rows;
  int32_t size, ratio;
};

// f(item, cost) for every tile: a warp takes a sequence, its lanes the tiles.
template <class F>
__device__ __forceinline__ void for_each_tile(const PlanArguments& a, F f) {
  const int lane = lane_of_warp(), warp = warp_of_block();
  for (int32_t s = warp; s < a.sequences.count; s += kScanThreads / kWarpSize) {
    AttentionItem item;
    item.sequence = s;
    item.first_query = a.sequences.bounds[s];
    item.queries = a.sequences.bounds[s + 1] - item.first_query;
    if (item.queries <= 0) continue;
    item.keys = a.sequences.lengths == nullptr ? item.queries : a.sequences.lengths[s];
    const int32_t units = a.of_rows ? item.queries * a.ratio : item.keys;
    const int32_t tiles = (units + a.size - 1) / a.size;
    const int32_t past = (item.keys - item.queries) / a.size;
    for (item.tile = lane; item.tile < tiles; item.tile += kWarpSize) {
      const int32_t cost = past + (a.of_rows ? item.tile : tiles - 1 - item.tile);
      f(item, cost < kLevels ? cost : kLevels - 1);
    }
  }
}

// Where the tiles of each cost start, the highest cost at 0. A thread takes a run of costs, from
// the highest down.
__device__ __forceinline__ void places_from_counts(PlanShared& s) {
  constexpr int kRun = kLevels / kScanThreads;
  const int highest = kLevels - 1 - thread_of_block() * kRun;
  int32_t sum = 0;
  for (int i = 0; i < kRun; ++i) sum += s.place[highest - i];
  int32_t place = sum_before(sum, s.scan);
  for (int i = 0; i < kRun; ++i) {
    const int32_t count = s.place[highest - i];
    s.place[highest - i] = place;
    place += count;
  }
  if (thread_of_block() == kScanThreads - 1) s.total = place;
}

__global__ void __launch_bounds__(kScanThreads)
    plan_tiles(PlanArguments a, AttentionItem* items, int32_t capacity) {
  auto& s = shared_memory<PlanShared>();
  const int thread = thread_of_block();
  for (int32_t level = thread; level < kLevels; level += kScanThreads) s.place[level] = 0;
  __syncthreads();
  for_each_tile(a, [&](const AttentionItem&, int32_t cost) { atomicAdd(&s.place[cost], 1); });
  __syncthreads();
  places_from_counts(s);
  __syncthreads();
  for_each_tile(a, [&](const AttentionItem& item, int32_t cost) {
    items[atomicAdd(&s.place[cost], 1)] = item;
  });
  for (int32_t i = s.total + thread; i < capacity; i += kScanThreads) items[i] = AttentionItem{};
}

}  // namespace

Tensor plan_attention(const AttentionSequences& sequences, const TilePlan& plan,
                      const Tensor& rows_TC) {
  const int64_t units = rows_TC.rows() * (plan.of == TileOf::kRows ? plan.ratio : 1);
  CHECK(units < (int64_t{1} << 31), "{} rows of attention are too many", units);
  const int64_t capacity = units / plan.size + sequences.count;
  Tensor items(rows_TC.runtime(), {capacity, static_cast<int64_t>(sizeof(AttentionItem))},
               DType::kU8, MemoryTag::kWorkspace);
  if (capacity == 0) return items;
  launch(cuda_backend(rows_TC), "attention_plan",
         {.grid = dim3(1, 1, 1),
          .block = dim3(kScanThreads, 1, 1),
          .shared_bytes = sizeof(PlanShared)},
         plan_tiles,
         PlanArguments{sequences, plan.of == TileOf::kRows, static_cast<int32_t>(plan.size),
                       static_cast<int32_t>(plan.ratio)},
         static_cast<AttentionItem*>(items.raw()), static_cast<int32_t>(capacity));
  return items;
}

}  // namespace ink
