#include "engine/tensor/cuda_devices.h"

#include <fmt/format.h>

#include "engine/tensor/cuda_error.h"

namespace ink {
namespace {

constexpr int kOldestCapability = 75;

// What the driver's own words leave open.
std::string problem_of(cudaError_t asked) {
  const std::string text = cudaGetErrorString(asked);
  if (asked == cudaErrorSystemNotReady)
    return text + " (on a machine with NVSwitch: is nvidia-fabricmanager running?)";
  if (asked == cudaErrorSystemDriverMismatch)
    return text + " (after an update of the driver: restart the machine)";
  return text;
}

std::string version_text(int version) {
  return version == 0 ? "none" : fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

DeviceFacts cuda_facts(int ordinal) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  return facts_of(properties);
}

const bool kRegistered =
    register_probe(Device::kCuda, {.platform = cuda_platform, .facts = cuda_facts});

}  // namespace

DevicePlatform cuda_platform() {
  DevicePlatform platform;
  int driver = 0, runtime = 0;
  // Both answer without a driver: 0 is "none".
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  platform.driver = version_text(driver);
  platform.runtime = version_text(runtime);
  const cudaError_t asked = cudaGetDeviceCount(&platform.count);
  if (asked == cudaSuccess && platform.count > 0) return platform;
  (void)cudaGetLastError();  // it is handled here: the next launch must not report it
  platform.count = 0;
  platform.problem = driver == 0 ? "there is no NVIDIA driver"
                                 : problem_of(asked == cudaSuccess ? cudaErrorNoDevice : asked);
  return platform;
}

DeviceFacts facts_of(const cudaDeviceProp& properties) {
  std::string identity;
  for (const char byte : properties.uuid.bytes)
    identity += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return {.name = properties.name,
          .identity = std::move(identity),
          .slot = fmt::format("{:04x}:{:02x}:{:02x}", properties.pciDomainID, properties.pciBusID,
                              properties.pciDeviceID),
          .capability = properties.major * 10 + properties.minor,
          .multiprocessors = properties.multiProcessorCount,
          .memory = static_cast<int64_t>(properties.totalGlobalMem),
          .problem = properties.major * 10 + properties.minor >= kOldestCapability
                         ? ""
                         : fmt::format("{} has compute capability {}.{}, 7.5 is the oldest",
                                       properties.name, properties.major, properties.minor)};
}

}  // namespace ink
