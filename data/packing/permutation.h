// A permutation of [0, n) that is computed, not stored: a Feistel network on the next even number
// of bits, walked until the value falls below n (Black and Rogaway, "Ciphers with arbitrary finite
// domains", 2002).
//
// Called by the store writer (order of documents) and by the sampler (order of packs in an epoch).
// A pure function of (n, key); at() is O(1) on average, below four network passes for every n.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/core/philox.h"

namespace ink {

class Permutation {
 public:
  // `purpose` separates uses of one seed, `stream` numbers them (an epoch).
  Permutation(uint64_t n, uint64_t seed, std::string_view purpose, uint64_t stream = 0);

  [[nodiscard]] uint64_t size() const { return n_; }
  // The element at place i; i < n.
  [[nodiscard]] uint64_t at(uint64_t i) const;

 private:
  uint64_t n_;
  int half_bits_;
  PhiloxKey key_;
  uint64_t stream_;
};

}  // namespace ink
