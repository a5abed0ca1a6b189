#include "engine/tensor/cuda_backend.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "engine/tensor/cuda_devices.h"
#include "engine/tensor/cuda_error.h"
#include "engine/tensor/cuda_graph.h"
#include "engine/tensor/cuda_staging.h"
#include "engine/tensor/out_of_memory.h"

namespace ink {
namespace {

// What a user needs to know when no card can be used.
[[noreturn]] void no_card(int ordinal) {
  const DevicePlatform platform = cuda_platform();
  const std::string versions = fmt::format("driver for CUDA {}, this build is of CUDA {}",
                                           platform.driver, platform.runtime);
  if (platform.count > 0) {
    throw Error(ExitCode::kConfig, "train.device",
                fmt::format("expected a card of number {}, got {} of them, from 0; {}", ordinal,
                            platform.count, versions),
                "check CUDA_VISIBLE_DEVICES and the number of ranks per machine");
  }
  throw Error(
      ExitCode::kConfig, "train.device",
      fmt::format("expected an NVIDIA card, got none: {}; {}", platform.problem, versions),
      fmt::format("install the NVIDIA driver for CUDA {} or newer (nvidia-smi shows what is "
                  "there), check CUDA_VISIBLE_DEVICES, or take the cpu",
                  platform.runtime));
}

const bool kRegistered = register_backend(Device::kCuda, [](int ordinal) {
  return std::unique_ptr<DeviceBackend>(std::make_unique<CudaBackend>(ordinal));
});

}  // namespace

void check_cuda(cudaError_t result, const std::string& what) {
  if (result == cudaSuccess) return;
  (void)cudaGetLastError();  // it is reported here: the next launch must not report it again
  const std::string message =
      fmt::format("[{}] {}: {}", what, cudaGetErrorName(result), cudaGetErrorString(result));
  switch (result) {
    case cudaErrorMemoryAllocation:
      throw Error(ExitCode::kOutOfMemory, "memory", message,
                  "nvidia-smi shows what else uses the card's memory");
    case cudaErrorDevicesUnavailable:
      throw Error(
          ExitCode::kConfig, "train.device", message,
          "another process has the card for itself (nvidia-smi shows which, and the compute "
          "mode)");
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      throw Error(ExitCode::kConfig, "train.device", message,
                  "this build has no code for the card that its driver takes: build with the "
                  "preset cuda-release, or install a newer driver");
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorHardwareStackError:
      throw Error(ExitCode::kInternal, "device", message,
                  "the card reports a fault of its own: see nvidia-smi -q and Xid lines in the "
                  "system's log");
    default:
      throw InternalError(message);
  }
}

void* CudaAllocator::system_allocate(int64_t bytes) {
  void* pointer = nullptr;
  const cudaError_t result = cudaMalloc(&pointer, static_cast<size_t>(bytes));
  if (result == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return nullptr;
  }
  check_cuda(result, "cudaMalloc");
  return pointer;
}

void CudaAllocator::system_free(void* pointer, int64_t) noexcept { (void)cudaFree(pointer); }

CudaBackend::CudaBackend(int ordinal) : ordinal_(ordinal) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || ordinal >= count) no_card(ordinal);
  check_cuda(cudaSetDevice(ordinal), "cudaSetDevice");
  check_cuda(cudaGetDeviceProperties(&properties_, ordinal), "cudaGetDeviceProperties");
  if (const std::string problem = facts_of(properties_).problem; !problem.empty())
    throw Error(ExitCode::kConfig, "train.device", "expected a usable card: " + problem,
                "take the cpu");
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  const char* wait = std::getenv("INKSTONE_CUDA_SYNC");
  wait_after_launch_ = wait != nullptr && std::strcmp(wait, "1") == 0;
}

CudaBackend::~CudaBackend() {
  (void)cudaStreamSynchronize(stream_);
  resources_.clear();
  (void)cudaStreamDestroy(stream_);
}

void CudaBackend::copy_from_host(void* to, const void* from, int64_t bytes) {
  // A graph would read the staging memory again when other things are in it.
  CHECK(!recording_, "a copy of {} bytes from the host inside a recorded graph", bytes);
  if (bytes > 0) resource<UploadRing>().upload(to, from, bytes);
}

// By way of pinned memory, at the speed of the bus: one part flies while the host takes the one
// before.
void CudaBackend::copy_to_host(void* to, const void* from, int64_t bytes) {
  constexpr int64_t kPart = int64_t{16} << 20;
  std::unique_ptr<HostRead> flying;
  auto* next = static_cast<std::byte*>(to);
  const auto land = [&] {
    if (flying == nullptr) return;
    const std::span<const std::byte> part = flying->wait();
    next = std::ranges::copy(part, next).out;
  };
  for (int64_t done = 0; done < bytes; done += kPart) {
    auto behind =
        read_later(static_cast<const std::byte*>(from) + done, std::min(kPart, bytes - done));
    land();
    flying = std::move(behind);
  }
  land();
}

void CudaBackend::copy(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  check_cuda(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream_),
      "copy on the card");
}

void CudaBackend::zero(void* pointer, int64_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemsetAsync(pointer, 0, static_cast<size_t>(bytes), stream_), "zero");
}

// Where a kernel has failed, its state is returned and not what a guard saw of it: the ops say
// more.
template <class Query>
cudaError_t CudaBackend::poll(Query query) const {
  constexpr int kSpins = 2000;  // short waits are the rule; a long one leaves the core to others
  cudaError_t state = query();
  for (int spins = 0; state == cudaErrorNotReady; ++spins) {
    (void)cudaGetLastError();  // "not ready" is no error that the next launch may report
    try {
      for (HostWaitGuard* guard : guards_) guard->look();
    } catch (...) {
      state = query();
      if (state != cudaSuccess && state != cudaErrorNotReady) return state;
      throw;
    }
    if (spins > kSpins) std::this_thread::sleep_for(std::chrono::microseconds(50));
    state = query();
  }
  if (state != cudaSuccess) return state;
  for (HostWaitGuard* guard : guards_) guard->look();
  return state;
}

cudaError_t CudaBackend::wait_for_stream() const {
  return guards_.empty() ? cudaStreamSynchronize(stream_)
                         : poll([&] { return cudaStreamQuery(stream_); });
}

void CudaBackend::synchronize() { check_wait(wait_for_stream()); }

void CudaBackend::wait_for(cudaEvent_t event) {
  const cudaError_t result =
      guards_.empty() ? cudaEventSynchronize(event) : poll([&] { return cudaEventQuery(event); });
  check_wait(result);
}

void CudaBackend::check_wait(cudaError_t result) const {
  if (result == cudaSuccess) return;
  check_cuda(result, fmt::format("one of the ops launched last: {}{}", recent_ops(),
                                 wait_after_launch_ ? "" : "; INKSTONE_CUDA_SYNC=1 names it"));
}

std::unique_ptr<HostRead> CudaBackend::read_later(const void* from, int64_t bytes) {
  CHECK(!recording_, "a copy of {} bytes to the host inside a recorded graph", bytes);
  return resource<ReadBuffers>().read_later(from, bytes);
}

std::unique_ptr<DeviceGraph> CudaBackend::record(const std::function<void()>& work) {
  if (wait_after_launch_) return nullptr;
  auto graph = std::make_unique<CudaGraph>(*this);
  const Scoped recording(recording_, graph.get());
  graph->record(work);
  return graph;
}

void CudaBackend::interlude(std::function<void()> work) {
  if (recording_ == nullptr) return work();
  recording_->interlude(std::move(work));
}

void CudaBackend::check(cudaError_t result, const std::string& what) const {
  if (result != cudaErrorMemoryAllocation) return check_cuda(result, what);
  (void)cudaGetLastError();
  out_of_memory(what);
}

void CudaBackend::out_of_memory(const std::string& what) const {
  throw OutOfMemory(
      "memory", fmt::format("[{}] driver and libraries find no room beside these tensors", what), 0,
      allocator_.report());
}

void CudaBackend::launched(const char* op) {
  recent_[launches_++ % recent_.size()] = op;
  check(cudaGetLastError(), op);
  if (wait_after_launch_) check(wait_for_stream(), op);
}

std::string CudaBackend::recent_ops() const {
  std::string names;
  for (size_t i = 0; i < std::min(launches_, recent_.size()); ++i)
    names += fmt::format("{}{}", i == 0 ? "" : ", ", recent_[(launches_ - 1 - i) % recent_.size()]);
  return names.empty() ? "none" : names;
}

CudaBackend& cuda_backend(const Tensor& tensor) {
  CHECK(tensor.device() == Device::kCuda, "the tensor lies on {}", name_of(tensor.device()));
  return static_cast<CudaBackend&>(tensor.runtime().backend());
}

}  // namespace ink
