// The host implementation of CUDA finds what it is there for: a missing barrier, a barrier that not
// all reach, shared memory that nobody wrote, a missing wait between streams, calls that a capture
// forbids.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>
#include <tuple>
#include <vector>

#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/tensor/cuda_stream.h"

namespace ink {
namespace {

using cuda_on_cpu::Order;
using cuda_on_cpu::Streams;

struct Line {
  float value[64];
};

// Every thread takes its neighbour's value; right only with the barrier.
template <bool WithBarrier>
void rotate(const float* in, float* out) {
  Line& line = shared_memory<Line>();
  line.value[threadIdx.x] = in[threadIdx.x];
  if (WithBarrier) __syncthreads();
  out[threadIdx.x] = line.value[(threadIdx.x + 1) % 64];
}

class CudaOnCpu : public ::testing::Test {
 protected:
  CudaOnCpu()
      : runtime_({}, make_backend(Device::kCuda)),
        backend_(static_cast<CudaBackend&>(runtime_.backend())) {}
  ~CudaOnCpu() override {
    cuda_on_cpu::set_order(Order::kAscending);
    cuda_on_cpu::set_streams(Streams::kAtOnce);
    cuda_on_cpu::repair_cards();
    (void)cudaGetLastError();
  }

  [[nodiscard]] Tensor numbers(int count) {
    std::vector<float> values(static_cast<size_t>(count));
    std::iota(values.begin(), values.end(), 0.0f);
    return to_tensor(runtime_, values);
  }
  std::vector<float> rotated(void (*kernel)(const float*, float*), Order order) {
    const Tensor in = numbers(64);
    Tensor out(runtime_, {64}, DType::kF32);
    cuda_on_cpu::set_order(order);
    launch(backend_, "rotate", {.grid = 1, .block = 64, .shared_bytes = sizeof(Line)}, kernel,
           in.data<float>(), out.data<float>());
    return to_vector<float>(out);
  }

  Runtime runtime_;
  CudaBackend& backend_;
};

TEST_F(CudaOnCpu, ARightKernelGivesTheSameInEveryOrder) {
  std::vector<float> want(64);
  for (size_t i = 0; i < 64; ++i) want[i] = static_cast<float>((i + 1) % 64);
  for (const Order order : {Order::kAscending, Order::kDescending, Order::kRandom})
    EXPECT_EQ(rotated(rotate<true>, order), want);
}

TEST_F(CudaOnCpu, AMissingBarrierShowsAsUnwrittenSharedMemory) {
  const std::vector<float> got = rotated(rotate<false>, Order::kAscending);
  EXPECT_TRUE(std::isnan(got[0]));
}

// How far warp 0 gets ahead of warp 1 at most.
void lead_of_a_warp(float* lead) {
  auto& steps = shared_memory<std::array<int, 2>>();
  if (threadIdx.x % 32 == 0) steps[threadIdx.x / 32] = 0;
  __syncthreads();
  for (int i = 0; i < 1000; ++i) {
    __syncwarp();
    if (threadIdx.x % 32 != 0) continue;
    ++steps[threadIdx.x / 32];
    if (threadIdx.x == 0) *lead = fmaxf(*lead, static_cast<float>(steps[0] - steps[1]));
  }
}

TEST_F(CudaOnCpu, WarpsRestInRandomOrder) {
  for (const auto& [order, least, most] :
       {std::tuple{Order::kAscending, 0.0f, 2.0f}, std::tuple{Order::kRandom, 32.0f, 1000.0f}}) {
    const Tensor lead = zeros(runtime_, {1}, DType::kF32);
    cuda_on_cpu::set_order(order);
    launch(backend_, "lead", {.grid = 1, .block = 64, .shared_bytes = 8}, lead_of_a_warp,
           lead.data<float>());
    EXPECT_GE(to_vector<float>(lead)[0], least);
    EXPECT_LE(to_vector<float>(lead)[0], most);
  }
}

void sum_of_block(const float* in, float* out) {
  auto& scratch = shared_memory<BlockScratch<float>>();
  const float total = block_sum(in[threadIdx.x], scratch);
  const float largest = block_max(in[threadIdx.x], scratch);
  if (threadIdx.x == 0) {
    out[0] = total;
    out[1] = largest;
  }
}

TEST_F(CudaOnCpu, SumsAndMaximaOfABlock) {
  const Tensor in = numbers(96);
  Tensor out(runtime_, {2}, DType::kF32);
  launch(backend_, "sum", {.grid = 1, .block = 96, .shared_bytes = sizeof(BlockScratch<float>)},
         sum_of_block, in.data<float>(), out.data<float>());
  EXPECT_EQ(to_vector<float>(out), (std::vector<float>{96 * 95 / 2, 95}));
}

void half_at_the_warp_barrier(float*) {
  if (threadIdx.x < 16) __syncwarp();
}
void names_an_absent_lane(float* out) { *out = __shfl_sync(kFullMask, 1.0f, 0); }
void writes_a_number(float* out) { *out = 1; }

TEST_F(CudaOnCpu, ABarrierThatNotAllReachIsALaunchFailure) {
  Tensor out(runtime_, {1}, DType::kF32);
  EXPECT_THROW(launch(backend_, "half", {.grid = 1, .block = 32}, half_at_the_warp_barrier,
                      out.data<float>()),
               InternalError);
  cuda_on_cpu::repair_cards();
  EXPECT_THROW(
      launch(backend_, "absent", {.grid = 1, .block = 20}, names_an_absent_lane, out.data<float>()),
      InternalError);
}

TEST_F(CudaOnCpu, ALaunchBeyondTheLimitsOfTheCardIsRefused) {
  Tensor out(runtime_, {1}, DType::kF32);
  const auto start = [&](const LaunchShape& shape) {
    launch(backend_, "limits", shape, writes_a_number, out.data<float>());
  };
  EXPECT_THROW(start({.grid = 1, .block = 1025}), InternalError);
  EXPECT_THROW(start({.grid = dim3(1, 65536), .block = 1}), InternalError);
  cuda_on_cpu::set_capability(7, 5);
  EXPECT_THROW(start({.grid = 1, .block = 1, .shared_bytes = (64 << 10) + 1}), InternalError);
  EXPECT_NO_THROW(start({.grid = 1, .block = 1, .shared_bytes = 64 << 10}));
  cuda_on_cpu::set_capability(9, 0);
  EXPECT_NO_THROW(start({.grid = 1, .block = 1, .shared_bytes = 227 << 10}));
}

// A second stream copies what the first one writes; without the event it comes too early.
float seen_by_second_stream(CudaBackend& backend, Runtime& runtime, bool with_event) {
  cudaStream_t second = nullptr;
  cudaEvent_t written = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), "stream");
  check_cuda(cudaEventCreateWithFlags(&written, cudaEventDisableTiming), "event");
  Tensor value = zeros(runtime, {1}, DType::kF32), seen = zeros(runtime, {1}, DType::kF32);
  backend.synchronize();
  launch(backend, "write", {.grid = 1, .block = 1}, writes_a_number, value.data<float>());
  check_cuda(cudaEventRecord(written, backend.stream()), "record");
  if (with_event) check_cuda(cudaStreamWaitEvent(second, written), "wait");
  check_cuda(cudaMemcpyAsync(seen.raw(), value.raw(), 4, cudaMemcpyDeviceToDevice, second), "copy");
  check_cuda(cudaStreamSynchronize(second), "synchronize");
  const float result = to_vector<float>(seen)[0];
  check_cuda(cudaEventDestroy(written), "event");
  check_cuda(cudaStreamDestroy(second), "stream");
  return result;
}

TEST_F(CudaOnCpu, AMissingWaitBetweenStreamsShowsWhenTheyRunLate) {
  cuda_on_cpu::set_streams(Streams::kLate);
  EXPECT_EQ(seen_by_second_stream(backend_, runtime_, true), 1.0f);
  EXPECT_EQ(seen_by_second_stream(backend_, runtime_, false), 0.0f);
}

void add_one(float* value) { *value += 1; }

TEST_F(CudaOnCpu, ACapturedGraphRunsWhenItIsLaunchedAndForbidsWaiting) {
  const Tensor value = zeros(runtime_, {1}, DType::kF32);
  backend_.synchronize();
  check_cuda(cudaStreamBeginCapture(backend_.stream(), cudaStreamCaptureModeThreadLocal), "begin");
  launch(backend_, "add_one", {.grid = 1, .block = 1}, add_one, value.data<float>());
  EXPECT_THROW(backend_.synchronize(), InternalError);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
  (void)cudaGetLastError();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  check_cuda(cudaStreamEndCapture(backend_.stream(), &graph), "end");
  EXPECT_EQ(to_vector<float>(value)[0], 0.0f);
  check_cuda(cudaGraphInstantiate(&exec, graph), "instantiate");
  for (int i = 0; i < 3; ++i) check_cuda(cudaGraphLaunch(exec, backend_.stream()), "launch");
  EXPECT_EQ(to_vector<float>(value)[0], 3.0f);
  check_cuda(cudaGraphExecDestroy(exec), "exec");
  check_cuda(cudaGraphDestroy(graph), "graph");
}

// As on a card: nothing in a graph waits for what is not in it, an event of a capture is not asked,
// and a capture ends when all streams in it are waited for.
TEST_F(CudaOnCpu, ACaptureIsClosedAgainstWhatIsBesideIt) {
  const Tensor value = zeros(runtime_, {1}, DType::kF32);
  const UrgentStream second;
  const StreamEvent before, fork, join;
  before.record(second.get());
  for (const bool joined : {false, true}) {
    check_cuda(cudaStreamBeginCapture(backend_.stream(), cudaStreamCaptureModeRelaxed), "begin");
    EXPECT_THROW(before.hold(backend_.stream()), InternalError);
    EXPECT_EQ(cudaStreamQuery(backend_.stream()), cudaErrorStreamCaptureUnsupported);
    fork.record(backend_.stream());
    EXPECT_THROW((void)fork.passed(), InternalError);
    fork.hold(second.get());
    check_cuda(cudaMemsetAsync(value.raw(), 0xff, 4, second.get()), "memset");
    join.record(second.get());
    if (joined) join.hold(backend_.stream());
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(backend_.stream(), &graph);
    EXPECT_EQ(ended, joined ? cudaSuccess : cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(graph != nullptr, joined);
    if (graph != nullptr) check_cuda(cudaGraphDestroy(graph), "graph");
    EXPECT_THROW(join.hold(backend_.stream()), InternalError) << "of a capture that is over";
  }
  EXPECT_EQ(to_vector<float>(value)[0], 0.0f);
}

TEST_F(CudaOnCpu, FailuresNameTheOpAndMemoryRunsOut) {
  Tensor out(runtime_, {1}, DType::kF32);
  try {
    launch(backend_, "my_op", {.grid = 1, .block = 2048}, writes_a_number, out.data<float>());
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("[my_op]"), std::string::npos) << error.what();
  }
  cuda_on_cpu::set_device_memory(1 << 20);
  try {
    (void)Tensor(runtime_, {1 << 20}, DType::kF32, MemoryTag::kActivations);
    ADD_FAILURE() << "4 MiB fit into 1 MiB";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("activations"), std::string::npos) << error.what();
  }
  cuda_on_cpu::set_device_memory(std::size_t{8} << 30);
}

TEST(CudaOnCpuMachine, WhatACardSaysHasTheCodeOfItsCause) {
  const auto code_of = [](cudaError_t result) {
    try {
      check_cuda(result, "call");
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("[call]"), std::string::npos);
      return std::pair(error.code(), !error.hint().empty());
    }
    return std::pair(ExitCode::kDone, false);
  };
  using Outcome = std::pair<ExitCode, bool>;
  EXPECT_EQ(code_of(cudaSuccess), Outcome(ExitCode::kDone, false));
  EXPECT_EQ(code_of(cudaErrorLaunchFailure), Outcome(ExitCode::kInternal, false));
  EXPECT_EQ(code_of(cudaErrorMemoryAllocation), Outcome(ExitCode::kOutOfMemory, true));
  for (const cudaError_t result : {cudaErrorDevicesUnavailable, cudaErrorNoKernelImageForDevice,
                                   cudaErrorUnsupportedPtxVersion})
    EXPECT_EQ(code_of(result), Outcome(ExitCode::kConfig, true)) << result;
  EXPECT_EQ(code_of(cudaErrorECCUncorrectable), Outcome(ExitCode::kInternal, true));
}

TEST(CudaOnCpuMachine, WithoutACardTheErrorNamesDriverAndRuntime) {
  cuda_on_cpu::set_devices(0);
  try {
    (void)make_backend(Device::kCuda);
    ADD_FAILURE() << "no card, no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    const std::string line = error.line();
    EXPECT_NE(line.find("driver for CUDA none"), std::string::npos) << line;
    EXPECT_NE(line.find("this build is of CUDA 13.0"), std::string::npos) << line;
    EXPECT_NE(line.find("install the NVIDIA driver"), std::string::npos) << line;
  }
  cuda_on_cpu::set_devices(1);
}

}  // namespace
}  // namespace ink
