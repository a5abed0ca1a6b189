// The optimizer's clock and the norm it reads.
#include <cstring>

#include "engine/kernels/cpu/block_sum.h"
#include "engine/ops/step_advance.h"

namespace ink {
namespace {

void advance_tensor(const Tensor& sum_squares, const StepOptions& options, Tensor& tensor) {
  CHECK_OP("advance_step", tensor.bytes() == static_cast<int64_t>(sizeof(StepState)),
           "state has {} bytes, StepState has {}", tensor.bytes(), sizeof(StepState));
  StepState state;
  std::memcpy(&state, tensor.raw(), sizeof state);
  const double* sums = sum_squares.data<double>();
  advance(sums[0], sums[sum_squares.numel() - 1], options, state);
  std::memcpy(tensor.raw(), &state, sizeof state);
}

template <class Isa>
void squares(const Tensor& x, WriteMode mode, Tensor& sum) {
  const double total = block_sum<Isa>(x, [](double value) { return value * value; });
  double& result = *sum.data<double>();
  result = mode == WriteMode::kAccumulate ? result + total : total;
}

// By the candidate that sum_squares takes, tensor after tensor.
void squares_of_all(std::span<const Tensor> tensors, Tensor& each_N, Tensor& sum) {
  double total = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    Tensor one = each_N.flat(static_cast<int64_t>(i), {});
    sum_squares(Device::kCpu, tensors[i], WriteMode::kOverwrite, one);
    total += *one.data<double>();
  }
  *sum.data<double>() = total;
}

REGISTER_KERNEL(advance_step, kCpu, plain, advance_tensor);
REGISTER_KERNEL(sum_squares, kCpu, plain, squares<Plain>);
REGISTER_KERNEL(sum_squares, kCpu, avx2, squares<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(sum_squares, kCpu, avx512, squares<Avx512>, .priority = 20, .supports = on_avx512);
REGISTER_KERNEL(sum_squares_many, kCpu, plain, squares_of_all);

}  // namespace
}  // namespace ink
