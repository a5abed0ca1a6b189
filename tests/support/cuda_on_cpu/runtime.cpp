// Devices, memory, launches and errors of the host implementation.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include "tests/support/cuda_on_cpu/block.h"
#include "tests/support/cuda_on_cpu/busy_card.h"
#include "tests/support/cuda_on_cpu/launch_log.h"
#include "tests/support/cuda_on_cpu/runtime_api.h"
#include "tests/support/cuda_on_cpu/streams.h"

namespace ink::cuda_on_cpu {
namespace {

struct Machine {
  std::mutex mutex;
  int devices = 1, major = 9, minor = 0;
  std::size_t memory = std::size_t{8} << 30, used = 0;
  std::map<void*, std::size_t> blocks, pinned;
  std::map<const void*, int> max_shared;
  long long launches = 0, failing = 0, refused = 0;
  int card = -1, instance = 0;  // with MIG
  cudaError_t not_ready = cudaSuccess, taken = cudaSuccess;
};

Machine& machine() {
  static Machine it;
  return it;
}

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

// CUDA C++ programming guide, technical specifications per compute capability.
std::size_t shared_limit(int major, int minor) {
  if (major == 7) return std::size_t{64} << 10;
  if (major == 8) return (minor == 0 || minor == 7 ? std::size_t{163} : std::size_t{99}) << 10;
  return std::size_t{227} << 10;
}

cudaError_t fail(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

constexpr std::size_t kDefaultShared = std::size_t{48} << 10;
constexpr std::size_t kFilledWhole = std::size_t{1} << 30;

bool fits(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 g = config.gridDim, b = config.blockDim;
  const auto& it = machine();
  const auto asked = it.max_shared.find(kernel);
  const std::size_t allowed =
      asked == it.max_shared.end()
          ? kDefaultShared
          : std::max(kDefaultShared, static_cast<std::size_t>(asked->second));
  return g.x > 0 && g.x <= 0x7fffffffu && g.y > 0 && g.y <= 65535 && g.z > 0 && g.z <= 65535 &&
         b.x > 0 && b.y > 0 && b.z > 0 && b.z <= 64 && b.x * b.y * b.z <= 1024 &&
         config.dynamicSmemBytes <= allowed && config.numAttrs == 0;
}

}  // namespace

cudaError_t remember(cudaError_t error) { return fail(error); }

bool is_pinned(const void* pointer) {
  auto& it = machine();
  const std::lock_guard lock(it.mutex);
  auto found = it.pinned.upper_bound(const_cast<void*>(pointer));
  if (found == it.pinned.begin()) return false;
  --found;
  return static_cast<const char*>(pointer) < static_cast<char*>(found->first) + found->second;
}

void set_devices(int count) { machine().devices = count; }
void set_capability(int major, int minor) {
  machine().major = major;
  machine().minor = minor;
}
void set_device_memory(std::size_t bytes) { machine().memory = bytes; }
void refuse_devices(cudaError_t reason) { machine().not_ready = reason; }
void refuse_card(cudaError_t reason) { machine().taken = reason; }
void set_instance(int card, int instance) {
  machine().card = card;
  machine().instance = instance;
}
void fail_launch(long long number) { machine().failing = number; }
void refuse_launch(long long number) { machine().refused = number; }

cudaError_t set_max_shared(const void* kernel, int bytes) {
  auto& it = machine();
  const std::lock_guard lock(it.mutex);
  if (bytes < 0 || static_cast<std::size_t>(bytes) > shared_limit(it.major, it.minor))
    return fail(cudaErrorInvalidValue);
  it.max_shared[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t enqueue_launch(const cudaLaunchConfig_t& config, const void* kernel,
                           std::function<void()> body) {
  {
    const std::lock_guard lock(machine().mutex);
    if (!fits(config, kernel)) return fail(cudaErrorInvalidConfiguration);
    log_launch(config, kernel, machine().major * 10 + machine().minor);
    if (++machine().launches == machine().refused) return fail(cudaErrorMemoryAllocation);
    if (machine().launches == machine().failing)
      body = [] { throw std::runtime_error("this launch was asked to fail"); };
  }
  return enqueue(config.stream, [config, body = std::move(body), turns = order()] {
    const Order before = order();
    set_order(turns);
    run_grid(config.gridDim, config.blockDim, config.dynamicSmemBytes, body);
    set_order(before);
  });
}

}  // namespace ink::cuda_on_cpu

using ink::cuda_on_cpu::fail;
using ink::cuda_on_cpu::machine;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = machine().devices;
  if (machine().not_ready != cudaSuccess) return fail(machine().not_ready);
  return fail(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= machine().devices) return fail(cudaErrorInvalidDevice);
  if (machine().taken != cudaSuccess) return fail(machine().taken);
  ink::cuda_on_cpu::current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = ink::cuda_on_cpu::current_device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= machine().devices) return fail(cudaErrorInvalidDevice);
  const auto& it = machine();
  const bool divided = it.card >= 0;
  const int card = divided ? it.card : device, instance = divided ? 1 + it.instance : 0;
  *properties = {.name = {},
                 .uuid = {{static_cast<char>(card), static_cast<char>(instance)}},
                 .totalGlobalMem = it.memory,
                 .sharedMemPerBlock = ink::cuda_on_cpu::kDefaultShared,
                 .sharedMemPerBlockOptin = ink::cuda_on_cpu::shared_limit(it.major, it.minor),
                 .major = it.major,
                 .minor = it.minor,
                 .multiProcessorCount = 4,
                 .maxThreadsPerBlock = 1024,
                 .l2CacheSize = 1 << 20,
                 .pciDomainID = 0,
                 .pciBusID = 16 + card,
                 .pciDeviceID = 0};
  std::strcpy(properties->name, divided ? "CUDA on CPU MIG 1g.5gb" : "CUDA on CPU");
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine().devices > 0 ? 13000 : 0;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  auto& it = machine();
  const std::lock_guard lock(it.mutex);
  *total = it.memory;
  *free = it.memory - it.used;
  return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorDevicesUnavailable:
      return "cudaErrorDevicesUnavailable";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorSystemNotReady:
      return "cudaErrorSystemNotReady";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    default:
      return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

cudaError_t cudaGetLastError() { return std::exchange(ink::cuda_on_cpu::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return ink::cuda_on_cpu::last_error; }

// Exact sizes, so that AddressSanitizer sees what lies outside; filled with NaN, large ones at
// their ends alone: what nobody touches of them then takes no memory.
cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  if (ink::cuda_on_cpu::capturing()) return fail(cudaErrorStreamCaptureUnsupported);
  auto& it = machine();
  const std::lock_guard lock(it.mutex);
  if (it.used + bytes > it.memory) return fail(cudaErrorMemoryAllocation);
  if (posix_memalign(pointer, 256, std::max<std::size_t>(bytes, 1)) != 0)
    return fail(cudaErrorMemoryAllocation);
  const std::size_t filled = bytes > ink::cuda_on_cpu::kFilledWhole ? std::size_t{1} << 20 : bytes;
  std::memset(*pointer, 0xff, filled);
  std::memset(static_cast<char*>(*pointer) + bytes - filled, 0xff, filled);
  it.blocks[*pointer] = bytes;
  it.used += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  if (ink::cuda_on_cpu::capturing()) return fail(cudaErrorStreamCaptureUnsupported);
  const cudaError_t waited = cudaDeviceSynchronize();
  auto& it = machine();
  const std::lock_guard lock(it.mutex);
  const auto found = it.blocks.find(pointer);
  if (found == it.blocks.end()) return fail(cudaErrorInvalidValue);
  it.used -= found->second;
  it.blocks.erase(found);
  std::free(pointer);
  return waited;
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  if (posix_memalign(pointer, 256, std::max<std::size_t>(bytes, 1)) != 0)
    return fail(cudaErrorMemoryAllocation);
  auto& it = machine();
  const std::lock_guard lock(it.mutex);
  it.pinned[*pointer] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  const cudaError_t waited = cudaDeviceSynchronize();
  auto& it = machine();
  const std::lock_guard lock(it.mutex);
  if (it.pinned.erase(pointer) == 0) return fail(cudaErrorInvalidValue);
  std::free(pointer);
  return waited;
}
