// The products of a training linear over 1024 tokens, and of the head over one chunk of the loss,
// by every candidate of the slots: y = x * W^T, dx = dy * W, dW += dy^T * x. Threads:
// OMP_NUM_THREADS. GFLOP/s is by the clock; the CPU column counts the time of all threads. few_rows
// is what generation runs: the rate at which few rows of x stream W.
#include <benchmark/benchmark.h>

#include <array>
#include <string>

#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "engine/core/philox.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

enum Product : int64_t { kForward, kInput, kWeight };
constexpr std::array<const char*, 3> kProducts{"y", "dx", "dW"};
constexpr std::array<const char*, 5> kCandidates{"onednn", "avx512_bf16_onednn", "avx512", "avx2",
                                                 "plain"};

Tensor random_tensor(Runtime& runtime, const Shape& shape, DType dtype) {
  Tensor tensor(runtime, shape, dtype);
  const PhiloxKey key = philox_key(1, "gemm_bench");
  visit_float(dtype, [&]<class T>() {
    for (int64_t i = 0; i < tensor.numel(); ++i)
      tensor.data<T>()[i] = static_cast<T>(philox_uniform(key, static_cast<uint64_t>(i)) - 0.5F);
  });
  return tensor;
}

KernelSlotBase& slot_of(Product product) {
  if (product == kForward) return linear_forward;
  if (product == kInput) return linear_backward_input;
  return linear_backward_weight;
}

struct Problem {
  Tensor x, w, dy, y, dx, dw;

  Problem(Runtime& runtime, int64_t rows, int64_t inputs, int64_t outputs, DType dtype)
      : x(random_tensor(runtime, {rows, inputs}, dtype)),
        w(random_tensor(runtime, {outputs, inputs}, dtype)),
        dy(random_tensor(runtime, {rows, outputs}, dtype)),
        y(runtime, {rows, outputs}, outputs >= 32000 ? DType::kF32 : dtype),
        dx(runtime, {rows, inputs}, dtype),
        dw(zeros(runtime, {outputs, inputs}, DType::kF32)) {}

  void run(Product product) {
    if (product == kForward) {
      linear_forward(Device::kCpu, x, w, {}, y);
    } else if (product == kInput) {
      linear_backward_input(Device::kCpu, dy, w, WriteMode::kOverwrite, dx);
    } else {
      linear_backward_weight(Device::kCpu, dy, x, WriteMode::kAccumulate, dw);
    }
  }
};

// product, rows, inputs, outputs, bf16, candidate
void gemm(benchmark::State& state) {
  const auto product = static_cast<Product>(state.range(0));
  const DType dtype = state.range(4) != 0 ? DType::kBF16 : DType::kF32;
  const char* candidate = kCandidates[static_cast<size_t>(state.range(5))];
  Runtime runtime;
  Problem problem(runtime, state.range(1), state.range(2), state.range(3), dtype);
  KernelSlotBase& slot = slot_of(product);
  slot.choose(Device::kCpu, candidate);
  problem.run(product);
  const std::string ran = slot.last_label(Device::kCpu);
  state.SetLabel(fmt::format("{} {} by {}, {} threads, {}",
                             kProducts[static_cast<size_t>(state.range(0))], name_of(dtype), ran,
                             thread_count(), instruction_set()));
  if (ran != candidate) state.SkipWithError("not on this machine or not in this dtype");
  for (auto _ : state) problem.run(product);
  slot.choose(Device::kCpu, {});
  const double flops = 2.0 * static_cast<double>(state.range(1) * state.range(2) * state.range(3));
  state.counters["GFLOP/s"] = benchmark::Counter(
      flops * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(gemm)
    ->ArgNames({"product", "T", "I", "O", "bf16", "candidate"})
    ->ArgsProduct({{kForward, kInput, kWeight}, {1024}, {768}, {768, 2048}, {0, 1}, {0, 1, 2, 3}})
    ->ArgsProduct({{kForward, kInput, kWeight}, {1024}, {2048}, {768}, {0, 1}, {0, 1, 2, 3}})
    ->ArgsProduct({{kForward, kInput, kWeight}, {256}, {768}, {32000}, {0, 1}, {0, 1, 2, 3}})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

// rows, inputs, outputs, bf16: what generation runs; bytes are those of W.
void few_rows(benchmark::State& state) {
  const DType dtype = state.range(3) != 0 ? DType::kBF16 : DType::kF32;
  Runtime runtime;
  Problem problem(runtime, state.range(0), state.range(1), state.range(2), dtype);
  for (auto _ : state) problem.run(kForward);
  state.SetLabel(fmt::format("{} by {}, {} threads", name_of(dtype),
                             linear_forward.last_label(Device::kCpu), thread_count()));
  state.SetBytesProcessed(state.iterations() * problem.w.bytes());
}
BENCHMARK(few_rows)
    ->ArgNames({"T", "I", "O", "bf16"})
    ->ArgsProduct({{1, 4}, {2048}, {32000}, {0, 1}})
    ->UseRealTime();

}  // namespace
}  // namespace ink
