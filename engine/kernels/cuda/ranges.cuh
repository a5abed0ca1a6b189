// One launch over many ranges of elements (the tensors of an optimizer): every range is cut into
// chunks of equal length, and a block takes a chunk. The list goes to the card with the launch, so
// nothing has to be kept in step with tensors that move.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/launch.h"

namespace ink {

// Range has first_block, the number of its first block, and length, in elements.
template <class Range>
class RangeList {
 public:
  explicit RangeList(int64_t per_block) : per_block_(per_block) {}
  void add(Range range) {
    if (range.length == 0) return;
    range.first_block = blocks_;
    blocks_ += (range.length + per_block_ - 1) / per_block_;
    ranges_.push_back(range);
  }
  [[nodiscard]] int64_t blocks() const { return blocks_; }
  [[nodiscard]] int count() const { return static_cast<int>(ranges_.size()); }
  [[nodiscard]] Tensor upload(Runtime& runtime) const {
    const std::span<const Range> all(ranges_);
    Tensor list(runtime, {static_cast<int64_t>(all.size_bytes())}, DType::kU8,
                MemoryTag::kWorkspace);
    runtime.backend().copy_from_host(list.raw(), all.data(), list.bytes());
    return list;
  }

 private:
  int64_t per_block_, blocks_ = 0;
  std::vector<Range> ranges_;
};

// The range of this block: the last one that begins at it or before.
template <class Range>
__device__ __forceinline__ const Range& range_of_block(const Range* ranges, int count) {
  int low = 0, high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (ranges[middle].first_block <= int64_t{blockIdx.x}) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return ranges[low];
}

}  // namespace ink
