// The functions of ptx.cuh on the host implementation of CUDA, from the fragment tables of the PTX
// manual: lanes exchange through the block that runs them. Included by ptx.cuh alone.
#pragma once

#include <cmath>
#include <cstring>

#include "engine/kernels/cuda/device.cuh"

namespace ink::ptx {

template <class T>
inline float half_of(uint32_t pair, int which) {
  T x;
  x.bits = static_cast<uint16_t>(pair >> (16 * which));
  return static_cast<float>(x);
}

// a: kSteps * 2 registers as in the tables, b: kSteps.
template <class T, int kSteps>
struct MmaOperands {
  uint32_t a[2 * kSteps], b[kSteps];
};

template <class T, int kSteps>
inline void mma_of_lanes(float (&d)[4], const MmaOperands<T, kSteps>& mine) {
  auto& block = cuda_on_cpu::Block::current();
  const int g = block.lane() / 4, t = block.lane() % 4;
  const auto add = [&](auto of) {
    MmaOperands<T, kSteps> rows[4], columns[2][4];
    for (int k = 0; k < 4; ++k) {
      rows[k] = of(4 * g + k);
      for (int n = 0; n < 2; ++n) columns[n][k] = of(4 * (2 * t + n) + k);
    }
    for (int i = 0; i < 4; ++i) {
      float sum = 0;
      for (int step = 0; step < kSteps; ++step) {
        for (int k = 0; k < 8; ++k)
          sum += half_of<T>(rows[k / 2].a[2 * step + i / 2], k % 2) *
                 half_of<T>(columns[i % 2][k / 2].b[step], k % 2);
      }
      d[i] += sum;
    }
    return 0;
  };
  block.warp_collective(kFullMask, mine, add);
}

inline void mma_16x8x8_f16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b) {
  mma_of_lanes<f16, 1>(d, {{a0, a1}, {b}});
}

template <class T>
inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  mma_of_lanes<T, 2>(d, {{a[0], a[1], a[2], a[3]}, {b0, b1}});
}

inline uint32_t element_pair(const uint16_t* first, const uint16_t* second) {
  return *first | static_cast<uint32_t>(*second) << 16;
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  auto& block = cuda_on_cpu::Block::current();
  const int g = block.lane() / 4, t = block.lane() % 4;
  block.warp_collective(kFullMask, row, [&](auto of) {
    for (int i = 0; i < 4; ++i) {
      const auto* elements = static_cast<const uint16_t*>(of(8 * i + g));
      r[i] = element_pair(elements + 2 * t, elements + 2 * t + 1);
    }
    return 0;
  });
}

inline void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  auto& block = cuda_on_cpu::Block::current();
  const int g = block.lane() / 4, t = block.lane() % 4;
  block.warp_collective(kFullMask, row, [&](auto of) {
    for (int i = 0; i < 4; ++i)
      r[i] = element_pair(static_cast<const uint16_t*>(of(8 * i + 2 * t)) + g,
                          static_cast<const uint16_t*>(of(8 * i + 2 * t + 1)) + g);
    return 0;
  });
}

inline constexpr bool kAsyncCopies = true;

template <int kBytes>
inline void copy_async(void* shared, const void* global, bool there) {
  static_assert(kBytes == 4 || kBytes == 16);
  cuda_on_cpu::Block::current().start_copy(shared, there ? global : nullptr, kBytes);
}
inline void commit_copies() { cuda_on_cpu::Block::current().commit_copies(); }
template <int kGroups>
inline void wait_copies() {
  cuda_on_cpu::Block::current().wait_copies(kGroups);
}

inline int lane_read_here() { return cuda_on_cpu::Block::current().lane(); }

inline float exp2_approx(float x) { return std::exp2(x); }

template <class T>
inline uint32_t pack_pair(float first, float second) {
  return T(first).bits | static_cast<uint32_t>(T(second).bits) << 16;
}

}  // namespace ink::ptx
