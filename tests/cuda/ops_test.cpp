// The op rows on the card: outputs and gradients against the f64 form, every candidate, strided and
// empty inputs. On the host implementation also in three orders of the threads, which must agree
// bit by bit: what differs misses a barrier.
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "engine/tensor/devices.h"
#include "tests/support/op_case.h"
#include "tests/support/op_run.h"

#ifdef INKSTONE_CUDA_ON_CPU_TEST
#include "tests/support/cuda_on_cpu/block.h"
#endif

namespace ink {
namespace {

bool card_is_there() {
  try {
    (void)make_backend(Device::kCuda);
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(CudaCard, IsThere) {
  try {
    Runtime runtime({}, make_backend(Device::kCuda));
    EXPECT_EQ(runtime.device(), Device::kCuda);
  } catch (const Error& error) {
    GTEST_SKIP() << "no op row ran on a card: " << error.what();
  }
}

TEST(CudaKernels, FillEverySlotOfTheCpu) {
  for (const KernelSlotBase* slot : KernelSlotBase::all())
    EXPECT_TRUE(slot->has(Device::kCuda)) << slot->name() << " has no CUDA kernel";
}

bool some_row_runs(KernelSlotBase& slot, std::string_view label) {
  for (const OpCase& row : op_cases()) {
    if (std::find(row.slots.begin(), row.slots.end(), &slot) == row.slots.end()) continue;
    const std::vector<Shape> shapes = input_shapes(row);
    for (const DType dtype : row.dtypes) {
      if (dtype == DType::kF64) continue;
      for (const Recompute policy : {Recompute::kNone, Recompute::kSelective}) {
        (void)run_case(
            row, input_values(row, shapes, dtype), shapes,
            {.dtype = dtype, .consumer = true, .recompute = policy, .device = Device::kCuda});
        const char* last = slot.last_label(Device::kCuda);
        if (last != nullptr && last == label) return true;
      }
    }
  }
  return false;
}

// Candidates of which a card of another generation has no code.
bool is_of_this_card(std::string_view label) {
  const int capability = device_facts(Device::kCuda, 0).capability;
  if (label == "flash_wgmma") return capability == 90;
  return label != "cudnn" || capability >= 90;
}

TEST(CudaKernels, EveryCandidateRunsInSomeRow) {
  if (!card_is_there()) GTEST_SKIP() << "no card";
  std::set<KernelSlotBase*> slots;
  std::set<std::string> left_out;
  for (const OpCase& row : op_cases()) slots.insert(row.slots.begin(), row.slots.end());
  for (KernelSlotBase* slot : slots) {
    for (const std::string_view label : slot->labels(Device::kCuda)) {
      if (!is_of_this_card(label)) {
        left_out.emplace(label);
        continue;
      }
      slot->choose(Device::kCuda, label);
      EXPECT_TRUE(some_row_runs(*slot, label)) << slot->name() << ": " << label;
      slot->choose(Device::kCuda, {});
    }
  }
  if (!left_out.empty())
    GTEST_SKIP() << "not for this card: " << fmt::format("{}", fmt::join(left_out, ", "));
}

#ifdef INKSTONE_CUDA_ON_CPU_TEST
TEST(CudaKernels, GiveTheSameBitsInEveryOrderOfThreads) {
  using cuda_on_cpu::Order;
  for (const OpCase& row : op_cases()) {
    const std::vector<Shape> shapes = input_shapes(row);
    for (const DType dtype : row.dtypes) {
      if (dtype == DType::kF64) continue;
      const OpRun how{.dtype = dtype, .device = Device::kCuda};
      const std::vector<Values> inputs = input_values(row, shapes, dtype);
      const OpResult want = run_case(row, inputs, shapes, how);
      for (const Order order : {Order::kDescending, Order::kRandom}) {
        cuda_on_cpu::set_order(order);
        const OpResult got = run_case(row, inputs, shapes, how);
        cuda_on_cpu::set_order(Order::kAscending);
        EXPECT_EQ(got.outputs, want.outputs) << row.name << " " << name_of(dtype);
        EXPECT_EQ(got.gradients, want.gradients) << row.name << " " << name_of(dtype);
      }
    }
  }
}
#endif

}  // namespace
}  // namespace ink

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (ink::card_is_there()) {
    ink::register_device_checks(ink::Device::kCuda);
    if (GTEST_FLAG_GET(filter) == "*") GTEST_FLAG_SET(filter, "*_on_cuda.*:Cuda*");
  } else {
    GTEST_FLAG_SET(filter, "CudaCard.*");
  }
  return RUN_ALL_TESTS();
}
