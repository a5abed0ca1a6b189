#include "data/loader/numpy_order.h"

#include <limits>
#include <numeric>
#include <utility>

#include "engine/core/error.h"

namespace ink {

NumpyOrder::NumpyOrder(std::vector<int64_t> packs, int64_t batch, uint64_t seed)
    : packs_(std::move(packs)),
      total_(std::accumulate(packs_.begin(), packs_.end(), int64_t{0})),
      length_(total_ / batch * batch),
      seed_(static_cast<uint32_t>(seed)),
      shuffle_(seed_) {
  CHECK(seed <= std::numeric_limits<uint32_t>::max(), "seed {}", seed);
  if (length_ == 0)
    throw Error(
        ExitCode::kBadInput, "data.train",
        fmt::format("expected at least {} full packs, a global batch, got {}", batch, total_),
        "train.compat.sampler leaves out the short last pack of every source, and what "
        "does not fill a batch");
}

void NumpyOrder::go_to(int64_t epoch) {
  if (epoch < epoch_) {
    shuffle_ = NumpyShuffle(seed_);
    epoch_ = -1;
  }
  for (; epoch_ < epoch; ++epoch_) order_ = shuffle_.next(static_cast<uint64_t>(total_));
}

SourcePack NumpyOrder::at(const EpochPlace& where) {
  CHECK(where.place >= 0 && where.place < length_, "place {} of {}", where.place, length_);
  go_to(where.epoch);
  SourcePack found{.source = 0, .pack = order_[static_cast<size_t>(where.place)]};
  for (; found.pack >= packs_[static_cast<size_t>(found.source)]; ++found.source)
    found.pack -= packs_[static_cast<size_t>(found.source)];
  return found;
}

}  // namespace ink
