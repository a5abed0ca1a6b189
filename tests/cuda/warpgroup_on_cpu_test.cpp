// What the host implementation knows of warpgroups finds what it is there for: wrong descriptors,
// products read before they are done or started without their fences, operands that are
// overwritten, barriers that nobody opens. Layouts are those of the examples in the PTX manual.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/ptx_hopper.cuh"
#include "tests/support/compare.h"
#include "tests/support/values.h"

namespace ink {
namespace {

using cuda_on_cpu::Order;

// A coordinate and its distance in elements, innermost first.
struct Mode {
  int size, distance;
};
int element_of(int index, const std::vector<Mode>& modes) {
  int at = 0;
  for (const auto& [size, distance] : modes) {
    at += index % size * distance;
    index /= size;
  }
  return at;
}

// "Canonical Layouts": exact layouts of 16-bit elements with the offsets that describe them.
TEST(MatrixDescriptor, LeadsToTheLayoutsOfTheManual) {
  struct Example {
    ptx::Major major;
    uint64_t mode;
    int bits;  // of the swizzle
    int leading, stride, size;
    std::vector<Mode> mn, k;
  };
  const std::vector<Example> examples = {
      {ptx::Major::kMn, 0, 0, 128, 64, 16, {{8, 1}, {1, 8}, {2, 64}}, {{8, 8}, {2, 128}}},
      {ptx::Major::kMn, 3, 1, 128, 256, 32, {{8, 1}, {2, 8}, {2, 128}}, {{8, 16}, {2, 256}}},
      {ptx::Major::kMn, 2, 2, 256, 512, 64, {{8, 1}, {4, 8}, {2, 256}}, {{8, 32}, {2, 512}}},
      {ptx::Major::kMn, 1, 3, 512, 1024, 128, {{8, 1}, {8, 8}, {2, 512}}, {{8, 64}, {2, 1024}}},
      {ptx::Major::kK, 0, 0, 128, 64, 16, {{8, 8}, {2, 64}}, {{8, 1}, {2, 128}}},
      {ptx::Major::kK, 3, 1, 8, 128, 16, {{8, 16}, {2, 128}}, {{8, 1}, {2, 8}}},
      {ptx::Major::kK, 2, 2, 8, 256, 16, {{8, 32}, {2, 256}}, {{8, 1}, {2, 8}}},
      {ptx::Major::kK, 1, 3, 8, 512, 16, {{8, 64}, {2, 512}}, {{8, 1}, {2, 8}}},
  };
  constexpr unsigned kStart = 4096;
  for (const Example& e : examples) {
    const auto bytes = [](int elements) { return static_cast<unsigned>(2 * elements); };
    const uint64_t descriptor = ptx::descriptor_field(kStart) |
                                ptx::descriptor_field(bytes(e.leading)) << ptx::kLeadingBit |
                                ptx::descriptor_field(bytes(e.stride)) << ptx::kStrideBit |
                                e.mode << ptx::kSwizzleBit;
    const ptx::SharedMatrix matrix(descriptor, e.major);
    for (int mn = 0; mn < e.size; ++mn) {
      for (int k = 0; k < 16; ++k) {
        const unsigned plain = kStart + bytes(element_of(mn, e.mn) + element_of(k, e.k));
        const unsigned mask = (1u << e.bits) - 1;
        EXPECT_EQ(matrix.address(mn, k), plain ^ (plain >> 7 & mask) << 4)
            << "mode " << e.mode << ", element " << mn << ", " << k;
      }
    }
  }
}

enum class Fault : uint8_t {
  kNone,
  kNotFenced,
  kStoredAndNotFenced,
  kRegistersNotFenced,
  kReadBeforeWait,
  kWrongStride,
  kOperandOverwritten
};

// 64 columns of 16-bit elements, 128 bytes per row, in the 128-byte swizzle.
template <int kRows>
struct alignas(1024) SwizzledRows {
  bf16 data[kRows * 64];
};
template <int kRows>
void load(SwizzledRows<kRows>& to, const bf16* from) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kRows * 8; i += ptx::kWarpgroup) {
    const int row = i / 8, chunk = i % 8;
    ptx::copy_async<16>(to.data + row * 64 + (chunk ^ row % 8) * 8, from + i * 8, true);
  }
  ptx::commit_copies();
}

// The same by ordinary stores.
template <int kRows>
void store(SwizzledRows<kRows>& to, const bf16* from) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kRows * 64; i += ptx::kWarpgroup) {
    const int row = i / 64, column = i % 64;
    to.data[row * 64 + (column / 8 ^ row % 8) * 8 + column % 8] = from[i];
  }
}

enum class By : uint8_t { kCopies, kStores };

struct Operands {
  SwizzledRows<64> a;
  SwizzledRows<128> b;
};

// d [64, 128] = a [64, 64] b^T, b [128, 64].
template <Fault kFault, By kBy>
void multiply(const bf16* a, const bf16* b, float* d) {
  auto& shared = shared_memory<Operands>();
  if (kBy == By::kCopies) {
    load(shared.a, a);
    load(shared.b, b);
    ptx::wait_copies<0>();
  } else {
    store(shared.a, a);
    store(shared.b, b);
  }
  if (kFault != Fault::kNotFenced) ptx::fence_for_wgmma();
  __syncthreads();
  if (kFault == Fault::kStoredAndNotFenced) {
    store(shared.a, b);
    __syncthreads();
  }
  constexpr unsigned kStride = kFault == Fault::kWrongStride ? 512 : 1024;
  const uint64_t left = ptx::swizzled_matrix(shared.a.data, 16, 1024);
  const uint64_t right = ptx::swizzled_matrix(shared.b.data, 16, kStride);
  float sum[16][4] = {};
  if (kFault != Fault::kRegistersNotFenced) ptx::wgmma_fence(sum);
  for (unsigned step = 0; step < 4; ++step) {
    const uint64_t further = ptx::descriptor_field(32 * step);
    ptx::wgmma<bf16, true>(sum, left + further, right + further);
  }
  ptx::wgmma_commit();
  if (kFault == Fault::kOperandOverwritten) {
    load(shared.b, a);
    ptx::wait_copies<0>();
    ptx::fence_for_wgmma();
    __syncthreads();
  }
  if (kFault != Fault::kReadBeforeWait) ptx::wgmma_wait<0>(sum);
  const int thread = static_cast<int>(threadIdx.x), row = thread / 32 * 16 + thread % 32 / 4;
  for (int n = 0; n < 16; ++n) {
    for (int i = 0; i < 4; ++i)
      d[(row + i / 2 * 8) * 128 + 8 * n + thread % 4 * 2 + i % 2] = sum[n][i];
  }
  ptx::wgmma_wait<0>(sum);
}

class WarpgroupOnCpu : public ::testing::Test {
 protected:
  WarpgroupOnCpu()
      : runtime_({}, make_backend(Device::kCuda)),
        backend_(static_cast<CudaBackend&>(runtime_.backend())),
        a_(rounded(normal_values("a", 128 * 64), DType::kBF16)),
        b_(rounded(normal_values("b", 128 * 64), DType::kBF16)) {}
  ~WarpgroupOnCpu() override { cuda_on_cpu::set_order(Order::kAscending); }

  template <Fault kFault, By kBy = By::kCopies>
  Values product(Order order = Order::kAscending) {
    const Tensor a = from_values(runtime_, a_, {128, 64}, DType::kBF16);
    const Tensor b = from_values(runtime_, b_, {128, 64}, DType::kBF16);
    const Tensor d(runtime_, {64, 128}, DType::kF32);
    cuda_on_cpu::set_order(order);
    launch(backend_, "multiply",
           {.grid = 1, .block = ptx::kWarpgroup, .shared_bytes = sizeof(Operands)},
           multiply<kFault, kBy>, static_cast<const bf16*>(a.data<bf16>()),
           static_cast<const bf16*>(b.data<bf16>()), d.data<float>());
    return to_values(d);
  }
  [[nodiscard]] Values want() const {
    Values d(64 * 128);
    for (size_t i = 0; i < d.size(); ++i) {
      for (size_t k = 0; k < 64; ++k) d[i] += a_[i / 128 * 64 + k] * b_[i % 128 * 64 + k];
    }
    return d;
  }
  void fails(void (*kernel)(), int threads) {
    EXPECT_THROW(launch(backend_, "stuck",
                        {.grid = 1,
                         .block = dim3(static_cast<unsigned>(threads), 1, 1),
                         .shared_bytes = sizeof(ptx::Barrier)},
                        kernel),
                 InternalError);
    cuda_on_cpu::repair_cards();
  }

  Runtime runtime_;
  CudaBackend& backend_;
  Values a_, b_;
};

TEST_F(WarpgroupOnCpu, ARightProductIsRightInEveryOrder) {
  for (const Order order : {Order::kAscending, Order::kDescending, Order::kRandom})
    EXPECT_LE(rel_frobenius(product<Fault::kNone>(order), want()), 1e-6);
}

TEST_F(WarpgroupOnCpu, StoresAreSeenBehindAFence) {
  for (const Order order : {Order::kAscending, Order::kDescending, Order::kRandom})
    EXPECT_LE(rel_frobenius(product<Fault::kNone, By::kStores>(order), want()), 1e-6);
  EXPECT_TRUE(std::isnan(product<Fault::kNotFenced, By::kStores>()[0]));
  EXPECT_LE(rel_frobenius(product<Fault::kStoredAndNotFenced>(), want()), 1e-6)
      << "a store without a fence behind it is seen";
}

TEST_F(WarpgroupOnCpu, FaultsShow) {
  EXPECT_TRUE(std::isnan(product<Fault::kNotFenced>()[0]));
  EXPECT_TRUE(std::isnan(product<Fault::kRegistersNotFenced>()[0]));
  EXPECT_TRUE(std::isnan(product<Fault::kReadBeforeWait>()[0]));
  EXPECT_GT(rel_frobenius(product<Fault::kWrongStride>(), want()), 0.1);
  EXPECT_GT(rel_frobenius(product<Fault::kOperandOverwritten>(), want()), 0.1);
  EXPECT_NE(product<Fault::kOperandOverwritten>(Order::kDescending),
            product<Fault::kOperandOverwritten>());
}

void nobody_arrives() {
  auto& barrier = shared_memory<ptx::Barrier>();
  if (threadIdx.x == 0) ptx::init_barrier(barrier, 1);
  __syncthreads();
  ptx::wait(barrier, 0);
}
void one_phase_only() {
  auto& barrier = shared_memory<ptx::Barrier>();
  if (threadIdx.x == 0) ptx::init_barrier(barrier, 32);
  __syncthreads();
  ptx::wait(barrier, 1);  // the phase before the first
  ptx::arrive(barrier);
  ptx::wait(barrier, 0);
  ptx::wait(barrier, 1);
}
void half_of_a_meeting() { ptx::meet_at(1, 64); }
void a_meeting_of_two_sizes() { ptx::meet_at(1, threadIdx.x < 32 ? 64 : 96); }
void a_meeting_of_half_a_warp() { ptx::meet_at(1, 16); }
void half_of_a_warpgroup() {
  float sum[16][4] = {};
  if (threadIdx.x < 64) ptx::wgmma<bf16, false>(sum, 0, 0);
}

TEST_F(WarpgroupOnCpu, ABarrierThatStaysShutIsALaunchFailure) {
  fails(nobody_arrives, 32);
  fails(one_phase_only, 32);
  fails(half_of_a_meeting, 32);
  fails(a_meeting_of_two_sizes, 96);
  fails(a_meeting_of_half_a_warp, 16);
  fails(half_of_a_warpgroup, 128);
}

}  // namespace
}  // namespace ink
