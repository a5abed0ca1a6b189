// The functions of ptx_hopper.cuh on the host implementation of CUDA, from the tables of the PTX
// manual that are named there. Shared memory starts at kSharedStart of its window, as on a card, so
// that a descriptor holds addresses of that window. wgmma reads what was fenced. Included by
// ptx_hopper.cuh alone.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "engine/kernels/cuda/ptx.cuh"

namespace ink::ptx {

inline constexpr unsigned kSharedStart = 1024;  // the first KiB belongs to the system on sm_90

inline unsigned shared_address(const void* pointer) {
  const auto* start = static_cast<const char*>(cuda_on_cpu::Block::current().shared());
  return kSharedStart + static_cast<unsigned>(static_cast<const char*>(pointer) - start);
}

// A barrier as this file keeps it: arrivals of a phase, those still to come, phases that are over.
struct BarrierState {
  uint16_t arrivals, pending;
  uint32_t phases;
};
static_assert(sizeof(BarrierState) == sizeof(Barrier));
// What follows is one instruction on a card, not the kernel's own accesses to the barrier:
// no_sanitize.
[[gnu::no_sanitize("thread")]] inline BarrierState state_of(const Barrier& barrier) {
  return std::bit_cast<BarrierState>(barrier.state);
}

inline void init_barrier(Barrier& barrier, unsigned arrivals) {
  const auto count = static_cast<uint16_t>(arrivals);
  barrier.state = std::bit_cast<uint64_t>(BarrierState{count, count, 0});
}
[[gnu::no_sanitize("thread")]] inline void arrive(Barrier& barrier) {
  BarrierState state = state_of(barrier);
  if (--state.pending == 0) {
    state.pending = state.arrivals;
    ++state.phases;
  }
  barrier.state = std::bit_cast<uint64_t>(state);
  cuda_on_cpu::Block::current().arrive_in_shared(&barrier, sizeof barrier,
                                                 state.pending == state.arrivals);
}
inline void wait(Barrier& barrier, unsigned parity) {
  auto& block = cuda_on_cpu::Block::current();
  block.wait_until([&barrier, parity] { return state_of(barrier).phases % 2 != parity; });
  block.pass_in_shared(&barrier, sizeof barrier);
}

inline void meet_at(int id, int threads) { cuda_on_cpu::Block::current().meet_at(id, threads); }
inline void arrive_at(int id, int threads) { cuda_on_cpu::Block::current().arrive_at(id, threads); }

inline void fence_for_wgmma() { cuda_on_cpu::Block::current().fence_for_products(); }

template <int kRegisters>
inline void give_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
inline void take_registers() {
  give_registers<kRegisters>();
}

inline uint64_t swizzled_matrix(const void* start, unsigned leading_bytes, unsigned stride_bytes) {
  return descriptor_field(shared_address(start)) | descriptor_field(leading_bytes) << kLeadingBit |
         descriptor_field(stride_bytes) << kStrideBit | kSwizzle128 << kSwizzleBit;
}

enum class Major : uint8_t { kK, kMn };

// A descriptor taken apart: "Matrix Descriptor Format", "Canonical Layouts".
class SharedMatrix {
 public:
  SharedMatrix(uint64_t descriptor, Major major) : major_(major) {
    start_ = field(descriptor, 0);
    leading_ = field(descriptor, kLeadingBit);
    stride_ = field(descriptor, kStrideBit);
    constexpr unsigned kWidths[] = {16, 128, 64, 32};
    width_ = kWidths[descriptor >> kSwizzleBit];
    if ((descriptor >> 49 & 7) != 0) throw std::logic_error("no model of a matrix base offset");
  }

  // Of element (mn, k), mn the row of a left operand or the column of a right one. Swizzle<b, 4,
  // 3>: b bits from bit 4 are xored with those from bit 7.
  [[nodiscard]] unsigned address(int mn, int k) const {
    const unsigned plain = plain_address(static_cast<unsigned>(mn), static_cast<unsigned>(k));
    return plain ^ (plain >> 7 & (width_ / 16 - 1)) << 4;
  }
  template <class T>
  [[nodiscard]] float at(int mn, int k) const {
    const auto& block = cuda_on_cpu::Block::current();
    const unsigned from = address(mn, k);
    if (from < kSharedStart || from - kSharedStart + sizeof(T) > block.shared_bytes())
      throw std::logic_error("a matrix descriptor leads out of shared memory");
    if (block.fenced_shared() == nullptr) return std::nanf("");
    T value;
    std::memcpy(&value, block.fenced_shared() + (from - kSharedStart), sizeof(T));
    return static_cast<float>(value);
  }
  // Which warp reads which rows is not promised: every warp reads all mn by 16 elements, its lanes
  // in turn.
  void tell_reads(int mn) const {
    auto& block = cuda_on_cpu::Block::current();
    for (int i = block.lane(); i < mn * 16; i += kWarpSize)
      block.read_operand(address(i / 16, i % 16) - kSharedStart, 2);
  }

 private:
  static unsigned field(uint64_t descriptor, int bit) {
    return static_cast<unsigned>(descriptor >> bit & 0x3fff) << 4;
  }
  // Layouts in elements of 16 bits; w = width of the swizzle in chunks of 8, 1 without one.
  //   K-major: ((8, m), (8, 2)) : ((8 w, stride), (1, 8)), without swizzle (1, leading).
  //   MN-major: ((8, w, m), (8, k)) : ((1, 8, leading), (8 w, stride)), without swizzle leading and
  //   stride change places.
  [[nodiscard]] unsigned plain_address(unsigned mn, unsigned k) const {
    if (major_ == Major::kK) {
      const unsigned chunk = k / 8 * (width_ == 16 ? leading_ : 16);
      return start_ + mn % 8 * width_ + mn / 8 * stride_ + chunk + k % 8 * 2;
    }
    const unsigned chunks = width_ / 16, chunk = mn / 8;
    const unsigned next = width_ == 16 ? stride_ : leading_;
    const unsigned deeper = width_ == 16 ? leading_ : stride_;
    return start_ + chunk % chunks * 16 + chunk / chunks * next + k % 8 * width_ + k / 8 * deeper +
           mn % 8 * 2;
  }

  Major major_;
  unsigned start_ = 0, leading_ = 0, stride_ = 0, width_ = 0;
};

template <class... Registers>
inline void wgmma_fence(Registers&...) {
  cuda_on_cpu::Block::current().products().fence();
}
inline void wgmma_commit() { cuda_on_cpu::Block::current().commit_products(); }
// A warp waits as one: none of its registers changes before all lanes are here.
template <int kGroups, class... Registers>
inline void wgmma_wait(Registers&...) {
  auto& block = cuda_on_cpu::Block::current();
  block.meet_lanes(kFullMask);
  block.wait_products(kGroups);
  block.meet_lanes(kFullMask);
}

// What a thread brings to a product: descriptors, the same in all threads, and a's registers.
struct WgmmaOperands {
  uint64_t a, b;
  const uint32_t* registers;
};

// Starts the thread's part of a product: row_of(which of its two rows, its quad's operands) reads a
// row of a. Thread t of a quad has columns 8 n + 2 t and + 1.
template <class T, int kN, class ReadRow>
inline void start_wgmma(float (&d)[kN][4], bool accumulate, const WgmmaOperands& mine,
                        Major b_major, ReadRow read_row) {
  auto& block = cuda_on_cpu::Block::current();
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, t = thread % 4;
  std::array<WgmmaOperands, 4> quad;
  block.warpgroup_collective(mine, [&](auto of) {
    const WgmmaOperands first = of(0);
    if (mine.a != first.a || mine.b != first.b)
      throw std::logic_error("threads of a warpgroup bring different descriptors to wgmma");
    for (int i = 0; i < 4; ++i) quad[static_cast<size_t>(i)] = of(thread - t + i);
  });
  if (mine.registers == nullptr) SharedMatrix(mine.a, Major::kK).tell_reads(64);
  SharedMatrix(mine.b, b_major).tell_reads(kN * 8);
  block.products().start(&d[0][0], kN * 4, [=](float* results) {
    const SharedMatrix b(mine.b, b_major);
    const std::array<std::array<float, 16>, 2> rows = {read_row(0, quad), read_row(1, quad)};
    for (int n = 0; n < kN; ++n) {
      for (int i = 0; i < 4; ++i) {
        float sum = 0;
        for (int k = 0; k < 16; ++k)
          sum += rows[static_cast<size_t>(i / 2)][static_cast<size_t>(k)] *
                 b.at<T>(8 * n + 2 * t + i % 2, k);
        float& result = results[4 * n + i];
        result = accumulate ? result + sum : sum;
      }
    }
  });
}

template <class T, bool kAccumulate, int kN>
inline void wgmma(float (&d)[kN][4], uint64_t a, uint64_t b) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const int first_row = thread / kWarpSize * 16 + thread % kWarpSize / 4;
  start_wgmma<T>(d, kAccumulate, {a, b, nullptr}, Major::kK, [=](int half, const auto&) {
    const SharedMatrix matrix(a, Major::kK);
    std::array<float, 16> row;
    for (int k = 0; k < 16; ++k)
      row[static_cast<size_t>(k)] = matrix.at<T>(first_row + 8 * half, k);
    return row;
  });
}

template <class T, int kN>
inline void wgmma(float (&d)[kN][4], const uint32_t (&a)[4], uint64_t b) {
  start_wgmma<T>(d, true, {0, b, a}, Major::kMn, [](int half, const auto& quad) {
    std::array<float, 16> row;
    for (int k = 0; k < 16; ++k) {
      const uint32_t* registers = quad[static_cast<size_t>(k % 8 / 2)].registers;
      row[static_cast<size_t>(k)] = half_of<T>(registers[k / 8 * 2 + half], k % 2);
    }
    return row;
  });
}

}  // namespace ink::ptx
