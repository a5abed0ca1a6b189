#include "data/packing/numpy_shuffle.h"

#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "engine/core/error.h"

namespace ink {

uint32_t NumpyShuffle::draw(uint32_t most) {
  const uint32_t mask = std::numeric_limits<uint32_t>::max() >> std::countl_zero(most);
  uint32_t value = 0;
  do {
    value = static_cast<uint32_t>(generator_()) & mask;
  } while (value > most);
  return value;
}

std::vector<uint32_t> NumpyShuffle::next(uint64_t n) {
  CHECK(n <= std::numeric_limits<uint32_t>::max(), "a shuffle of {}", n);
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0U);
  for (size_t i = n; i-- > 1;) std::swap(order[i], order[draw(static_cast<uint32_t>(i))]);
  return order;
}

}  // namespace ink
