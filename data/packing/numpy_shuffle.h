// The orders that numpy.random.RandomState(seed) gives to 0..n-1, one shuffle after the other from
// one generator: MT19937 seeded by one integer, and for i = n - 1 down to 1 a swap with an index in
// [0, i] that is drawn by masked rejection (NumPy, RandomState.shuffle, whose stream is frozen).
//
// Called by the sampler and the store writer where a run follows InternEvo's order.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace ink {

class NumpyShuffle {
 public:
  explicit NumpyShuffle(uint32_t seed) : generator_(seed) {}

  // The next shuffle of 0..n-1; n < 2^32.
  [[nodiscard]] std::vector<uint32_t> next(uint64_t n);

 private:
  // In [0, most].
  [[nodiscard]] uint32_t draw(uint32_t most);

  std::mt19937 generator_;
};

}  // namespace ink
