#include "tests/support/cuda_on_cpu/launch_log.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <set>

extern "C" const char
    __executable_start;  // of the linker: addresses in the symbol table start here

namespace ink::cuda_on_cpu {
namespace {

class LaunchLog {
 public:
  LaunchLog() : path_(std::getenv("EMULATED_LAUNCH_LOG")) {}
  ~LaunchLog() {
    if (path_ == nullptr) return;
    std::ofstream file(path_, std::ios::app);
    for (const auto& [address, threads, shared, capability] : seen_)
      file << address << ' ' << threads << ' ' << shared << ' ' << capability << '\n';
  }
  LaunchLog(const LaunchLog&) = delete;
  LaunchLog& operator=(const LaunchLog&) = delete;
  void add(const std::array<int64_t, 4>& launch) {
    if (path_ == nullptr) return;
    const std::lock_guard lock(mutex_);
    seen_.insert(launch);
  }

 private:
  const char* path_;
  std::mutex mutex_;
  std::set<std::array<int64_t, 4>> seen_;
};

}  // namespace

void log_launch(const cudaLaunchConfig_t& config, const void* kernel, int capability) {
  static LaunchLog log;
  const dim3 b = config.blockDim;
  log.add({static_cast<const char*>(kernel) - &__executable_start, int64_t{b.x} * b.y * b.z,
           static_cast<int64_t>(config.dynamicSmemBytes), capability});
}

}  // namespace ink::cuda_on_cpu
