// Philox words on AVX-512: eight blocks at a time, one in every 64-bit lane, so that a round is two
// 32-bit multiplications. The compiler makes 64-bit ones of the loop in philox_lanes.h, which take
// three times as long.
#include <immintrin.h>

#include "engine/kernels/cpu/philox_lanes.h"

// g++ 12 warns about its own intrinsics headers (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f")
namespace ink {
namespace {

// Lanes base, base + step, base + 2 step, ...
__m512i counters(uint64_t base, uint64_t step) {
  const auto at = [=](uint64_t lane) { return static_cast<int64_t>(base + lane * step); };
  return _mm512_setr_epi64(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
}

__mmask16 first_lanes(int64_t count) {
  return count >= 16 ? 0xffff : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}

// Of 64-bit lanes only the low half counts: multiplications ignore the other.
struct Counter {
  __m512i c0, c1, c2, c3;

  void run(PhiloxKey key) {
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53u), m1 = _mm512_set1_epi64(0xCD9E8D57u);
    constexpr int kXor = 0x96;
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const __m512i p0 = _mm512_mul_epu32(m0, c0), p1 = _mm512_mul_epu32(m1, c2);
      const __m512i k0 = _mm512_set1_epi64(key.k0), k1 = _mm512_set1_epi64(key.k1);
      c0 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c1, k0, kXor);
      c2 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c3, k1, kXor);
      c1 = p1;
      c3 = p0;
      key.k0 += 0x9E3779B9u;
      key.k1 += 0xBB67AE85u;
    }
  }

  // The four words of a block side by side; `count` words are wanted.
  void save(uint32_t* words, int64_t count) const {
    constexpr __mmask16 kUpper = 0xaaaa;
    const __m512i c01 = _mm512_mask_mov_epi32(c0, kUpper, _mm512_slli_epi64(c1, 32));
    const __m512i c23 = _mm512_mask_mov_epi32(c2, kUpper, _mm512_slli_epi64(c3, 32));
    const __m512i low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_mask_storeu_epi32(words, first_lanes(count), _mm512_permutex2var_epi64(c01, low, c23));
    _mm512_mask_storeu_epi32(words + 16, first_lanes(count - 16),
                             _mm512_permutex2var_epi64(c01, high, c23));
  }
};

}  // namespace

void philox_words_avx512(PhiloxKey key, uint64_t lo, uint64_t lo_step, uint64_t hi,
                         uint64_t hi_step, int64_t blocks, uint32_t* words) {
  __m512i low = counters(lo, lo_step), high = counters(hi, hi_step);
  const __m512i next_low = counters(8 * lo_step, 0), next_high = counters(8 * hi_step, 0);
  for (int64_t i = 0; i < blocks; i += 8) {
    Counter counter{low, _mm512_srli_epi64(low, 32), high, _mm512_srli_epi64(high, 32)};
    counter.run(key);
    counter.save(words + 4 * i, 4 * (blocks - i));
    low = _mm512_add_epi64(low, next_low);
    high = _mm512_add_epi64(high, next_high);
  }
}

}  // namespace ink
#pragma GCC pop_options
