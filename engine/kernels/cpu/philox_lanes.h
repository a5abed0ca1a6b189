// Philox words for a run of consecutive blocks, in loops that vectorise: the same words as
// philox() in engine/core/philox.h.
#pragma once

#include <cstdint>

#include "engine/core/philox.h"

namespace ink {

// philox_words() below where the machine has AVX-512.
void philox_words_avx512(PhiloxKey key, uint64_t lo, uint64_t lo_step, uint64_t hi,
                         uint64_t hi_step, int64_t blocks, uint32_t* words);

namespace {

// words[4 * i + k] = word k of philox(key, counter_lo(i), counter_hi(i)), where either counter
// may advance with i.
inline void philox_words(PhiloxKey key, uint64_t lo, uint64_t lo_step, uint64_t hi,
                         uint64_t hi_step, int64_t blocks, uint32_t* words) {
#pragma omp simd
  for (int64_t i = 0; i < blocks; ++i) {
    const uint64_t low = lo + lo_step * static_cast<uint64_t>(i);
    const uint64_t high = hi + hi_step * static_cast<uint64_t>(i);
    uint32_t c0 = static_cast<uint32_t>(low), c1 = static_cast<uint32_t>(low >> 32);
    uint32_t c2 = static_cast<uint32_t>(high), c3 = static_cast<uint32_t>(high >> 32);
    uint32_t k0 = key.k0, k1 = key.k1;
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
      const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c1 = static_cast<uint32_t>(p1);
      c3 = static_cast<uint32_t>(p0);
      c0 = n0;
      c2 = n2;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    words[4 * i] = c0;
    words[4 * i + 1] = c1;
    words[4 * i + 2] = c2;
    words[4 * i + 3] = c3;
  }
}

}  // namespace
}  // namespace ink
