// The race detector of the host implementation of CUDA: it finds what it is there for in every
// order of the threads, and says nothing of what is in order. Then the kernels themselves: every
// row of every op with every candidate here, attention and the loss by the tests of other programs.
#include "tests/support/cuda_on_cpu/races.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/kernels/cuda/ptx_hopper.cuh"
#include "tests/support/op_case.h"
#include "tests/support/op_run.h"

namespace ink {
namespace {

using cuda_on_cpu::Order;
using Kernel = void (*)(float* out);  // a float per thread: what it has read

template <class Shared>
std::string found(Kernel kernel, unsigned threads, Order order) {
  std::vector<float> out(threads);
  cuda_on_cpu::set_order(order);
  std::string finding;
  try {
    cuda_on_cpu::run_grid(1, threads, sizeof(Shared), [&] { kernel(out.data()); });
  } catch (const std::runtime_error& error) {
    finding = error.what();
  }
  cuda_on_cpu::set_order(Order::kAscending);
  return finding;
}

// The wrong one of two kernels is found in every order of the threads, the right one in none.
template <class Shared>
void tell_apart(Kernel right, Kernel wrong, unsigned threads, const std::string& what) {
  for (const Order order : {Order::kAscending, Order::kDescending, Order::kRandom}) {
    EXPECT_EQ(found<Shared>(right, threads, order), "");
    const std::string finding = found<Shared>(wrong, threads, order);
    EXPECT_NE(finding.find("nothing orders two accesses"), std::string::npos) << finding;
    EXPECT_NE(finding.find(what), std::string::npos) << finding;
  }
}

unsigned thread() { return threadIdx.x; }
bool first_warp() { return thread() < 32; }

using Line = std::array<float, 64>;

template <bool kRight>
void rotate(float* out) {
  auto& line = shared_memory<Line>();
  line[thread()] = 1;
  if (kRight) __syncthreads();
  out[thread()] = line[(thread() + 1) % 64];
}

TEST(RacesOnCpu, AMissingBarrierOfTheBlock) {
  tell_apart<Line>(rotate<true>, rotate<false>, 64, "a read by thread ");
}

// All lanes come to a shuffle before any goes on, and yet it orders no memory.
template <bool kRight>
void rotate_beside_a_shuffle(float* out) {
  auto& line = shared_memory<Line>();
  line[thread()] = 1;
  const float other = __shfl_xor_sync(kFullMask, 1.0f, 1);
  if (kRight) __syncwarp();
  out[thread()] = other + line[thread() ^ 1];
}

TEST(RacesOnCpu, AMissingBarrierOfTheWarp) {
  tell_apart<Line>(rotate_beside_a_shuffle<true>, rotate_beside_a_shuffle<false>, 64,
                   "a write by thread ");
}

// A barrier of one warp says nothing to the other.
template <bool kRight>
void wait_for_the_other_warp(float* out) {
  auto& line = shared_memory<Line>();
  line[thread()] = 1;
  if (kRight) __syncthreads();
  __syncwarp();
  out[thread()] = line[thread() ^ 32];
}

TEST(RacesOnCpu, ABarrierOfTheWrongWarp) {
  tell_apart<Line>(wait_for_the_other_warp<true>, wait_for_the_other_warp<false>, 64,
                   "a read by thread ");
}

template <bool kRight>
void count(float* out) {
  auto& counts = shared_memory<std::array<int, 2>>();
  if (thread() == 0) counts = {};
  __syncthreads();
  atomicAdd(&counts[thread() % 2], 1);
  if (kRight) __syncthreads();
  out[thread()] = static_cast<float>(counts[0]);
}

TEST(RacesOnCpu, AtomicUpdatesAreInOrderWithEachOtherAlone) {
  tell_apart<std::array<int, 2>>(count<true>, count<false>, 64, "an atomic update by thread ");
}

// One warp gives a slot to another and writes to it again when it has it back.
struct Slot {
  float value;
  ptx::Barrier full, empty;
};
enum class Fault : uint8_t { kNone, kNotInitialised, kReleasedBeforeRead };

template <Fault kFault>
void pass_a_slot(float* out) {
  auto& slot = shared_memory<Slot>();
  if (thread() == 0) {
    ptx::init_barrier(slot.full, 1);
    ptx::init_barrier(slot.empty, 32);
  }
  if (kFault != Fault::kNotInitialised) __syncthreads();
  for (unsigned turn = 0; turn < 4; ++turn) {
    if (first_warp()) {
      if (turn > 0) ptx::wait(slot.empty, (turn - 1) % 2);
      if (thread() == 0) slot.value = static_cast<float>(turn);
      if (thread() == 0) ptx::arrive(slot.full);
    } else {
      ptx::wait(slot.full, turn % 2);
      if (kFault == Fault::kReleasedBeforeRead) ptx::arrive(slot.empty);
      out[thread()] += slot.value;
      if (kFault != Fault::kReleasedBeforeRead) ptx::arrive(slot.empty);
    }
  }
}

TEST(RacesOnCpu, ABarrierInSharedMemoryReleasedBeforeTheRead) {
  tell_apart<Slot>(pass_a_slot<Fault::kNone>, pass_a_slot<Fault::kReleasedBeforeRead>, 64,
                   "a read by thread ");
}

TEST(RacesOnCpu, ABarrierInSharedMemoryBeforeItIsOne) {
  tell_apart<Slot>(pass_a_slot<Fault::kNone>, pass_a_slot<Fault::kNotInitialised>, 64,
                   "an atomic update by thread ");
}

// bar.arrive tells the others of this warp, not this warp of the others.
template <bool kRight>
void arrive_and_go_on(float* out) {
  auto& line = shared_memory<Line>();
  if (first_warp()) {
    line[thread()] = 1;
    ptx::arrive_at(1, 64);
    if (kRight) ptx::meet_at(2, 64);
    out[thread()] = line[32 + thread()];
  } else {
    line[thread()] = 1;
    ptx::meet_at(1, 64);
    out[thread()] = line[thread() - 32];
    if (kRight) ptx::arrive_at(2, 64);
  }
}

TEST(RacesOnCpu, AnArrivalAtANamedBarrierIsNoWait) {
  tell_apart<Line>(arrive_and_go_on<true>, arrive_and_go_on<false>, 64, "a read by thread ");
}

// Two tiles of four floats a thread, copied into the same place one behind the other.
using Tile = std::array<std::array<float, 4>, 64>;
enum class Missing : uint8_t { kNothing, kWait, kBarrierBeforeRead, kBarrierBehindRead };

template <Missing kMissing>
void copy_twice(float* out) {
  auto& tile = shared_memory<Tile>();
  const float from[4] = {};
  for (int pass = 0; pass < 2; ++pass) {
    ptx::copy_async<16>(&tile[thread()], from, true);
    ptx::commit_copies();
    if (kMissing != Missing::kWait) ptx::wait_copies<0>();
    if (kMissing != Missing::kBarrierBeforeRead) __syncthreads();
    out[thread()] += tile[thread() ^ 1][0];
    if (kMissing != Missing::kBarrierBehindRead) __syncthreads();
  }
}

TEST(RacesOnCpu, CopiesAreWaitedForAndHandedOn) {
  const Kernel right = copy_twice<Missing::kNothing>;
  tell_apart<Tile>(right, copy_twice<Missing::kWait>, 64, "a write by a copy of thread ");
  tell_apart<Tile>(right, copy_twice<Missing::kBarrierBeforeRead>, 64, "a write by a copy of ");
  tell_apart<Tile>(right, copy_twice<Missing::kBarrierBehindRead>, 64, "a write by a copy of ");
}

// d [64, 64] = a [64, 16] b^T: two operands whose rows are 32 bytes apart, as 8 x 8 matrices.
struct alignas(1024) Operands {
  bf16 a[64 * 64], b[64 * 64];
};
enum class Early : uint8_t { kNothing, kBeforeTheWait, kBeforeTheOthersWait };

template <Early kEarly>
void multiply_and_overwrite(float* out) {
  auto& shared = shared_memory<Operands>();
  for (unsigned i = thread(); i < 64 * 64; i += ptx::kWarpgroup)
    shared.a[i] = shared.b[i] = bf16(1.0f);
  ptx::fence_for_wgmma();
  __syncthreads();
  float sum[8][4] = {};
  ptx::wgmma_fence(sum);
  ptx::wgmma<bf16, true>(sum, ptx::swizzled_matrix(shared.a, 16, 1024),
                         ptx::swizzled_matrix(shared.b, 16, 1024));
  ptx::wgmma_commit();
  // A warp's own rows of a: whether the others read them is not its to know.
  const unsigned mine = thread() / 32 * 16 * 64;
  if (kEarly == Early::kBeforeTheWait) shared.a[mine + thread() % 32] = bf16(2.0f);
  ptx::wgmma_wait<0>(sum);
  if (kEarly == Early::kNothing) ptx::meet_at(1, ptx::kWarpgroup);
  if (kEarly != Early::kBeforeTheWait) shared.a[mine + thread() % 32] = bf16(2.0f);
  out[thread()] = sum[0][0];
}

TEST(RacesOnCpu, OperandsOfAProductBelongToItUntilAllHaveWaited) {
  const Kernel right = multiply_and_overwrite<Early::kNothing>;
  for (const Kernel wrong : {multiply_and_overwrite<Early::kBeforeTheWait>,
                             multiply_and_overwrite<Early::kBeforeTheOthersWait>})
    tell_apart<Operands>(right, wrong, ptx::kWarpgroup, "a read by a product of thread ");
}

// Every candidate of a row's slots: a race shows as the failure of its launch.
TEST(RacesInKernels, OfEveryRow) {
  ASSERT_TRUE(cuda_on_cpu::Races::followed());
  Runtime card({}, make_backend(Device::kCuda));
  for (const OpCase& row : op_cases()) {
    std::set<std::string> labels = {""};
    for (KernelSlotBase* slot : row.slots) {
      for (const std::string_view label : slot->labels(Device::kCuda)) labels.emplace(label);
    }
    const std::vector<Shape> shapes = input_shapes(row);
    for (const std::string& label : labels) {
      for (KernelSlotBase* slot : row.slots) {
        const auto has = slot->labels(Device::kCuda);
        slot->choose(Device::kCuda, std::ranges::count(has, label) > 0 ? label : "");
      }
      for (const DType dtype : dtypes_on(row, Device::kCuda))
        EXPECT_NO_THROW((void)run_case(row, input_values(row, shapes, dtype), shapes,
                                       {.dtype = dtype, .card = &card}))
            << row.name << " " << name_of(dtype) << " " << label;
    }
    for (KernelSlotBase* slot : row.slots) slot->choose(Device::kCuda, {});
  }
}

}  // namespace
}  // namespace ink

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  // Of the other programs' tests those that call every kernel in small sizes.
  if (GTEST_FLAG_GET(filter) == "*")
    GTEST_FLAG_SET(
        filter,
        "Races*:Labels/*.Shapes/"
        "*:CudaAttention.PlainShapes:CudaAttention.CachedKeys:CudaAttention.ManyDocuments:"
        "CudaAttention.Ragged*:CudaAttention.Stat*:CudaLmLoss.*");
  return RUN_ALL_TESTS();
}
