// Sums of what comes before, over one block of kScanThreads threads, each of which takes a run of
// the items.
#pragma once

#include "engine/kernels/cuda/device.cuh"

namespace ink {

inline constexpr int kScanThreads = 1024;

struct ScanScratch {
  int per_warp[kWarpSize];
};

// The sum of the values of all threads before this one.
__device__ __forceinline__ int sum_before(int value, ScanScratch& scratch) {
  const int lane = lane_of_warp(), warp = warp_of_block();
  int upto = value;
  for (int lanes = 1; lanes < kWarpSize; lanes *= 2) {
    const int other = __shfl_up_sync(kFullMask, upto, static_cast<unsigned>(lanes));
    if (lane >= lanes) upto += other;
  }
  if (lane == kWarpSize - 1) scratch.per_warp[warp] = upto;
  __syncthreads();
  return warp_sum(lane < warp ? scratch.per_warp[lane] : 0) + upto - value;
}

}  // namespace ink
