// The order of packs of InternEvo's sampler (data/tokenized/batch_sampler.py): every epoch shuffles
// the packs of all sources together with NumPy's generator, which goes on from epoch to epoch, and
// leaves out the tail that does not fill a global batch.
//
// Held by the Sampler of a run with train.compat.sampler. Rank r of dp takes every dp-th place from
// r on, which is how the loader deals out a global batch of micro-batches of one pack. Holds the
// order of one epoch, 4 bytes a pack; an earlier epoch than that is shuffled again from the seed.
#pragma once

#include <cstdint>
#include <vector>

#include "data/packing/numpy_shuffle.h"

namespace ink {

struct EpochPlace {
  int64_t epoch = 0;
  int64_t place = 0;  // of the next pack

  bool operator==(const EpochPlace&) const = default;
};

struct SourcePack {
  int32_t source = 0;
  int64_t pack = 0;
};

class NumpyOrder {
 public:
  // packs: of every source, those that take part. seed < 2^32. Code 3 where they are fewer than
  // `batch`, the packs of a global batch.
  NumpyOrder(std::vector<int64_t> packs, int64_t batch, uint64_t seed);

  // Packs of an epoch.
  [[nodiscard]] int64_t length() const { return length_; }
  // place < length().
  [[nodiscard]] SourcePack at(const EpochPlace& where);

 private:
  void go_to(int64_t epoch);

  std::vector<int64_t> packs_;
  int64_t total_ = 0, length_ = 0;
  uint32_t seed_;
  NumpyShuffle shuffle_;
  std::vector<uint32_t> order_;
  int64_t epoch_ = -1;  // of order_
};

}  // namespace ink
