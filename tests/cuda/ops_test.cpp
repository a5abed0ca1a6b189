// The op rows on the card: outputs and gradients against the f64 form, every candidate, strided and
// empty inputs. On the host implementation also in three orders of the threads, which must agree
// bit by bit: what differs misses a barrier.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "engine/tensor/devices.h"
#include "tests/cuda/card.h"
#include "tests/support/op_case.h"
#include "tests/support/op_run.h"

#ifdef INKSTONE_CUDA_ON_CPU_TEST
#include "tests/support/cuda_on_cpu/block.h"
#endif

namespace ink {
namespace {

TEST(CudaCard, IsThere) {
  if (const std::string why = why_no_card(); !why.empty())
    GTEST_SKIP() << "no op row ran on a card: " << why;
  Runtime runtime({}, make_backend(Device::kCuda));
  EXPECT_EQ(runtime.device(), Device::kCuda);
}

TEST(CudaKernels, FillEverySlotOfTheCpu) {
  for (const KernelSlotBase* slot : KernelSlotBase::all())
    EXPECT_TRUE(slot->has(Device::kCuda)) << slot->name() << " has no CUDA kernel";
}

bool some_row_runs(KernelSlotBase& slot, std::string_view label, Runtime& card) {
  for (const OpCase& row : op_cases()) {
    if (std::find(row.slots.begin(), row.slots.end(), &slot) == row.slots.end()) continue;
    const std::vector<Shape> shapes = input_shapes(row);
    for (const DType dtype : dtypes_on(row, Device::kCuda)) {
      for (const Recompute policy : {Recompute::kNone, Recompute::kSelective}) {
        (void)run_case(row, input_values(row, shapes, dtype), shapes,
                       {.dtype = dtype, .consumer = true, .recompute = policy, .card = &card});
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

std::set<KernelSlotBase*> slots_of_rows() {
  std::set<KernelSlotBase*> slots;
  for (const OpCase& row : op_cases()) slots.insert(row.slots.begin(), row.slots.end());
  return slots;
}

std::set<std::string> labels_of_rows() {
  std::set<std::string> all;
  for (const KernelSlotBase* slot : slots_of_rows()) {
    for (const std::string_view label : slot->labels(Device::kCuda)) all.emplace(label);
  }
  return all;
}

class Candidates : public testing::TestWithParam<std::string> {};

TEST_P(Candidates, RunInSomeRow) {
  const std::string& label = GetParam();
  if (!is_of_this_card(label)) GTEST_SKIP() << "not for this card: " << label;
  Runtime card({}, make_backend(Device::kCuda));
  for (KernelSlotBase* slot : slots_of_rows()) {
    if (std::ranges::count(slot->labels(Device::kCuda), label) == 0) continue;
    slot->choose(Device::kCuda, label);
    EXPECT_TRUE(some_row_runs(*slot, label, card)) << slot->name();
    slot->choose(Device::kCuda, {});
  }
}

INSTANTIATE_TEST_SUITE_P(CudaKernels, Candidates, testing::ValuesIn(labels_of_rows()),
                         [](const auto& info) { return info.param; });

#ifdef INKSTONE_CUDA_ON_CPU_TEST
TEST(CudaKernels, GiveTheSameBitsInEveryOrderOfThreads) {
  using cuda_on_cpu::Order;
  Runtime card({}, make_backend(Device::kCuda));
  for (const OpCase& row : op_cases()) {
    const std::vector<Shape> shapes = input_shapes(row);
    for (const DType dtype : dtypes_on(row, Device::kCuda)) {
      const OpRun how{.dtype = dtype, .card = &card};
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
  if (ink::why_no_card().empty()) {
    ink::register_device_checks(ink::Device::kCuda);
    // The rows on the processor are another program's, where a filter does not ask for them.
    const std::string filter = GTEST_FLAG_GET(filter);
    if (filter == "*" || filter.starts_with('-'))
      GTEST_FLAG_SET(filter, "*_on_cuda.*:Cuda*" + (filter == "*" ? "" : filter));
  } else {
    GTEST_FLAG_SET(filter, "CudaCard.*");
  }
  return RUN_ALL_TESTS();
}
