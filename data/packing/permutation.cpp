#include "data/packing/permutation.h"

#include <algorithm>
#include <bit>

#include "engine/core/error.h"

namespace ink {
namespace {
constexpr int kRounds = 6;
}

Permutation::Permutation(uint64_t n, uint64_t seed, std::string_view purpose, uint64_t stream)
    : n_(n),
      half_bits_(std::max(1, (static_cast<int>(std::bit_width(n > 0 ? n - 1 : 0)) + 1) / 2)),
      key_(philox_key(seed, purpose)),
      stream_(stream) {}

uint64_t Permutation::at(uint64_t i) const {
  CHECK(i < n_, "place {} of a permutation of {}", i, n_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t value = i;
  do {
    uint64_t left = value >> half_bits_, right = value & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const PhiloxBlock block = philox(key_, right | (round << 56), stream_);
      const uint64_t f = (uint64_t{block.v[1]} << 32 | block.v[0]) & mask;
      const uint64_t next = left ^ f;
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= n_);
  return value;
}

}  // namespace ink
