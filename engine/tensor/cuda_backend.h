// One NVIDIA card as the device of one rank: memory, the stream of its kernels, what libraries
// keep.
//
// Every kernel and copy of a rank goes into one stream, in program order; other streams
// (communication) are ordered against it with events. Nothing here waits for the card but
// copy_to_host() and synchronize(). A failure of a kernel shows at the next wait: the message names
// the ops launched last; with INKSTONE_CUDA_SYNC=1 in the environment every launch waits, and it
// names the op itself. Used by one thread at a time.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <memory>
#include <string>
#include <typeindex>
#include <unordered_map>
#include <vector>

#include "engine/tensor/backend.h"
#include "engine/tensor/tensor.h"

namespace ink {

class CudaGraph;  // engine/tensor/cuda_graph.h

// Device memory, in blocks of the card's own alignment.
class CudaAllocator final : public Allocator {
 public:
  ~CudaAllocator() override { release_all(); }

 protected:
  void* system_allocate(int64_t bytes) override;
  void system_free(void* pointer, int64_t bytes) noexcept override;
};

// Looks on while the host waits for the card: what the card does may hang on a peer that never
// comes (communication).
class HostWaitGuard {
 public:
  virtual ~HostWaitGuard() = default;
  // Called again and again while a wait lasts, and once when it has ended well. What it throws ends
  // the wait.
  virtual void look() = 0;
};

class CudaBackend final : public DeviceBackend {
 public:
  // Error(kConfig) when there is no such card, naming driver and runtime.
  explicit CudaBackend(int ordinal);
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  [[nodiscard]] Device device() const override { return Device::kCuda; }
  [[nodiscard]] Allocator& allocator() override { return allocator_; }
  void copy_from_host(void* to, const void* from, int64_t bytes) override;
  void copy_to_host(void* to, const void* from, int64_t bytes) override;
  void copy(void* to, const void* from, int64_t bytes) override;
  void zero(void* pointer, int64_t bytes) override;
  void synchronize() override;
  [[nodiscard]] std::unique_ptr<HostRead> read_later(const void* from, int64_t bytes) override;
  [[nodiscard]] std::unique_ptr<DeviceGraph> record(const std::function<void()>& work) override;
  void interlude(std::function<void()> work) override;
  [[nodiscard]] bool recording() const { return recording_ != nullptr; }
  // The host waits for an event, under the eyes of the guards as in synchronize().
  void wait_for(cudaEvent_t event);
  // A guard looks on from here until it is removed.
  void add_guard(HostWaitGuard& guard) { guards_.push_back(&guard); }
  void remove_guard(HostWaitGuard& guard) { std::erase(guards_, &guard); }

  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] int ordinal() const { return ordinal_; }
  [[nodiscard]] const cudaDeviceProp& properties() const { return properties_; }
  // 75, 80, 86, 89, 90 ...
  [[nodiscard]] int capability() const { return properties_.major * 10 + properties_.minor; }

  // check_cuda(); where memory ran out in the driver or a library, with the table.
  void check(cudaError_t result, const std::string& what) const;
  [[noreturn]] void out_of_memory(const std::string& what) const;
  // Called after every launch: surfaces a refused one and remembers the name.
  void launched(const char* op);

  // What a library keeps for this rank (a handle, a cache of plans), made as T(*this) on first use.
  template <class T>
  [[nodiscard]] T& resource() {
    std::shared_ptr<void>& slot = resources_[std::type_index(typeid(T))];
    if (!slot) slot = std::make_shared<T>(*this);
    return *static_cast<T*>(slot.get());
  }

 private:
  [[nodiscard]] std::string recent_ops() const;
  [[nodiscard]] cudaError_t wait_for_stream() const;
  void check_wait(cudaError_t result) const;
  template <class Query>
  [[nodiscard]] cudaError_t poll(Query query) const;

  int ordinal_;
  bool wait_after_launch_;
  CudaGraph* recording_ = nullptr;
  cudaDeviceProp properties_{};
  cudaStream_t stream_ = nullptr;
  CudaAllocator allocator_;
  std::array<const char*, 8> recent_{};
  size_t launches_ = 0;
  std::vector<HostWaitGuard*> guards_;
  std::unordered_map<std::type_index, std::shared_ptr<void>> resources_;
};

[[nodiscard]] CudaBackend& cuda_backend(const Tensor& tensor);

}  // namespace ink
