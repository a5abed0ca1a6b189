// Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1,
// 2, 3", SC11).
//
// A draw is a pure function of (key, counter), so nothing has to be saved and every layout draws
// the same numbers: initialisation is keyed by (seed, tensor name, global element), dropout by
// (seed, layer and place, step, token id, channel), the order of data by (seed, epoch). The CUDA
// kernels use this same function.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "engine/core/host_device.h"

namespace ink {

struct PhiloxKey {
  uint32_t k0 = 0, k1 = 0;
};

struct PhiloxBlock {
  uint32_t v[4];
};

INK_HOST_DEVICE inline PhiloxBlock philox(PhiloxKey key, uint64_t counter_lo, uint64_t counter_hi) {
  uint32_t c0 = static_cast<uint32_t>(counter_lo), c1 = static_cast<uint32_t>(counter_lo >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_hi), c3 = static_cast<uint32_t>(counter_hi >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ key.k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ key.k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    key.k0 += 0x9E3779B9u;
    key.k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A key from a seed and a label: FNV-1a of the label mixed into the 64-bit seed.
inline PhiloxKey philox_key(uint64_t seed, std::string_view label) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : label) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  uint64_t mixed = seed * 0x9E3779B97F4A7C15ull + hash;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ull;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBull;
  mixed ^= mixed >> 31;
  return {static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32)};
}

// Uniform in (0, 1): the middles of 2^23 equal parts, all exact in f32, never 0 or 1.
INK_HOST_DEVICE inline float uniform_open(uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

// Element i of a stream of standard normals: Box-Muller on word pairs, two normals per pair.
INK_HOST_DEVICE inline float philox_normal(PhiloxKey key, uint64_t element) {
  const PhiloxBlock block = philox(key, element / 4, 0);
  const int pair = static_cast<int>(element % 4) & ~1;
  const double u = uniform_open(block.v[pair]), w = uniform_open(block.v[pair + 1]);
  const double radius = std::sqrt(-2.0 * std::log(u)), angle = 6.283185307179586 * w;
  return static_cast<float>(radius * (element % 2 == 0 ? std::cos(angle) : std::sin(angle)));
}

// Element i of a stream of uniforms in (0, 1).
INK_HOST_DEVICE inline float philox_uniform(PhiloxKey key, uint64_t element) {
  return uniform_open(philox(key, element / 4, 0).v[element % 4]);
}

}  // namespace ink
