// Memory-bound kernels against memcpy: bytes per second of ideal traffic (every input read once,
// every output written once). Threads: OMP_NUM_THREADS.
#include <benchmark/benchmark.h>

#include <cstring>

#include "engine/autograd/backward.h"
#include "engine/core/parallel_for.h"
#include "engine/ops/adamw.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/rms_norm.h"
#include "engine/ops/step_state.h"
#include "engine/ops/swiglu.h"

namespace ink {
namespace {

constexpr int64_t kRows = 4096, kCols = 2048;
constexpr Device kHost = Device::kCpu;

Tensor filled(Runtime& runtime, DType dtype, double value = 0.5) {
  Tensor tensor(runtime, {kRows, kCols}, dtype);
  fill(kHost, value, tensor);
  return tensor;
}

Tensor filled_vector(Runtime& runtime, int64_t count, DType dtype) {
  Tensor tensor(runtime, {count}, dtype);
  fill(kHost, 1.0, tensor);
  return tensor;
}

// tensors: how many matrices of this dtype pass through memory once.
void report(benchmark::State& state, DType dtype, int64_t tensors) {
  state.SetBytesProcessed(state.iterations() * tensors * kRows * kCols * size_of(dtype));
}

void copy_by_memcpy(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor from = filled(runtime, dtype);
  const Tensor to = filled(runtime, dtype);
  const int64_t part = from.bytes() / thread_count();
  for (auto _ : state) {
#pragma omp parallel for schedule(static)
    for (int t = 0; t < thread_count(); ++t)
      std::memcpy(static_cast<char*>(to.raw()) + t * part,
                  static_cast<const char*>(from.raw()) + t * part, static_cast<size_t>(part));
  }
  report(state, dtype, 2);
}

void add(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor a = filled(runtime, dtype), b = filled(runtime, dtype);
  Tensor y = filled(runtime, dtype);
  for (auto _ : state) add_forward(kHost, a, b, y);
  report(state, dtype, 3);
}

void accumulate_into(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor from = filled(runtime, dtype);
  Tensor into = filled(runtime, dtype);
  for (auto _ : state) accumulate(kHost, from, into);
  report(state, dtype, 3);
}

void cast_to_f32(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor from = filled(runtime, dtype);
  Tensor to = filled(runtime, DType::kF32);
  for (auto _ : state) cast(kHost, from, to);
  state.SetBytesProcessed(state.iterations() * kRows * kCols * (size_of(dtype) + 4));
}

void cast_from_f32(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor from = filled(runtime, DType::kF32);
  Tensor to = filled(runtime, dtype);
  for (auto _ : state) cast(kHost, from, to);
  state.SetBytesProcessed(state.iterations() * kRows * kCols * (size_of(dtype) + 4));
}

void sum_of_squares(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor x = filled(runtime, dtype);
  Tensor sum(runtime, {}, DType::kF64);
  for (auto _ : state) sum_squares(kHost, x, WriteMode::kOverwrite, sum);
  report(state, dtype, 1);
}

struct NormTensors {
  explicit NormTensors(Runtime& runtime, DType dtype)
      : x(filled(runtime, dtype)),
        delta(filled(runtime, dtype)),
        h(filled(runtime, dtype)),
        n(filled(runtime, dtype)),
        w(filled_vector(runtime, kCols, dtype)),
        rstd(filled_vector(runtime, kRows, DType::kF32)),
        dw(filled_vector(runtime, kCols, DType::kF32)) {}
  Tensor x, delta, h, n, w, rstd, dw;
};

void rms_norm(benchmark::State& state, DType dtype) {
  Runtime runtime;
  NormTensors t(runtime, dtype);
  for (auto _ : state) rms_norm_forward(kHost, t.x, t.w, 1e-5f, t.n, t.rstd);
  report(state, dtype, 2);
}

void residual_and_norm(benchmark::State& state, DType dtype) {
  Runtime runtime;
  NormTensors t(runtime, dtype);
  for (auto _ : state) add_rms_norm_forward(kHost, t.x, t.delta, t.w, 1e-5f, t.h, t.n, t.rstd);
  report(state, dtype, 4);
}

void norm_input_gradient(benchmark::State& state, DType dtype) {
  Runtime runtime;
  NormTensors t(runtime, dtype);
  for (auto _ : state) rms_norm_backward_input(kHost, t.n, t.delta, t.h, t.w, t.rstd, t.x);
  report(state, dtype, 4);
}

void norm_weight_gradient(benchmark::State& state, DType dtype) {
  Runtime runtime;
  NormTensors t(runtime, dtype);
  for (auto _ : state)
    rms_norm_backward_weight(kHost, t.n, t.h, t.rstd, WriteMode::kAccumulate, t.dw);
  report(state, dtype, 2);
}

void swiglu(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor gate = filled(runtime, dtype), up = filled(runtime, dtype);
  Tensor y = filled(runtime, dtype);
  for (auto _ : state) swiglu_forward(kHost, gate, up, y);
  report(state, dtype, 3);
}

void swiglu_gradients(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor gate = filled(runtime, dtype), up = filled(runtime, dtype);
  const Tensor dy = filled(runtime, dtype);
  Tensor dgate = filled(runtime, dtype), dup = filled(runtime, dtype);
  Tensor none;
  for (auto _ : state) swiglu_backward(kHost, dy, gate, up, dgate, dup, none);
  report(state, dtype, 5);
}

void dropout(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor x = filled(runtime, dtype);
  Tensor y = filled(runtime, dtype);
  const Tensor ids = zeros(runtime, {kRows}, DType::kI64);
  for (auto _ : state) dropout_apply(kHost, x, ids, 0.1f, {.key = {1, 2}, .step = 3}, y);
  report(state, dtype, 2);
}

// dtype: of the parameter and both moments.
void adamw(benchmark::State& state, DType dtype) {
  Runtime runtime;
  const Tensor grad = filled(runtime, DType::kF32);
  Tensor param = filled(runtime, dtype), m = filled(runtime, dtype), v = filled(runtime, dtype);
  Tensor none, step(runtime, {static_cast<int64_t>(sizeof(StepState))}, DType::kU8);
  const StepState now{.updates = 1, .lr = 1e-6, .bias1 = 0.1, .bias2 = 0.05};
  std::memcpy(step.raw(), &now, sizeof now);
  for (auto _ : state) adamw_update(kHost, grad, step, {}, param, none, m, v);
  state.SetBytesProcessed(state.iterations() * kRows * kCols * (4 + 6 * size_of(dtype)));
}

#define REGISTER_BOTH(function)                                 \
  BENCHMARK_CAPTURE(function, f32, DType::kF32)->UseRealTime(); \
  BENCHMARK_CAPTURE(function, bf16, DType::kBF16)->UseRealTime()
REGISTER_BOTH(copy_by_memcpy);
REGISTER_BOTH(add);
REGISTER_BOTH(accumulate_into);
REGISTER_BOTH(cast_to_f32);
REGISTER_BOTH(cast_from_f32);
REGISTER_BOTH(sum_of_squares);
REGISTER_BOTH(rms_norm);
REGISTER_BOTH(residual_and_norm);
REGISTER_BOTH(norm_input_gradient);
REGISTER_BOTH(norm_weight_gradient);
REGISTER_BOTH(swiglu);
REGISTER_BOTH(swiglu_gradients);
REGISTER_BOTH(dropout);
REGISTER_BOTH(adamw);

}  // namespace
}  // namespace ink
