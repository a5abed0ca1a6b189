// Everything one rank owns: device, allocator, seed, counters, modes.
//
// Nothing here is global: a test runs four ranks as four threads, each with its own Runtime, and
// reads each one's memory peak. A Runtime outlives every tensor made from it and is used by one
// thread at a time (the allocator alone may be used by several).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/core/device.h"
#include "engine/tensor/allocator.h"
#include "engine/tensor/backend.h"

namespace ink {

// Which activations a forward pass keeps for backward: everything; what is not cheap to compute
// again (norms and SwiGLU are rebuilt); or only the input of every block.
enum class Recompute : uint8_t { kNone, kSelective, kFull };

// Weight gradients that linear layers put off, in the order of their backward. Run and cleared by
// its owner.
using DeferredGradients = std::vector<std::function<void()>>;

struct RuntimeOptions {
  uint64_t seed = 0;
  int64_t memory_limit = 0;  // bytes, 0 = none
};

class Runtime {
 public:
  explicit Runtime(RuntimeOptions options = {},
                   std::unique_ptr<DeviceBackend> backend = make_host_backend());
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] Device device() const { return backend_->device(); }
  [[nodiscard]] DeviceBackend& backend() { return *backend_; }
  [[nodiscard]] Allocator& allocator() { return backend_->allocator(); }
  [[nodiscard]] uint64_t seed() const { return options_.seed; }
  uint64_t next_sequence() { return ++sequence_; }

  MemoryTag tag = MemoryTag::kActivations;  // purpose of what is allocated now
  bool grad_enabled = true;                 // do ops record nodes?
  bool training = true;                     // is dropout on?
  Recompute recompute = Recompute::kNone;   // policy of the saved activations
  DeferredGradients* deferred = nullptr;    // set: linear layers queue their weight gradients here

 private:
  RuntimeOptions options_;
  std::unique_ptr<DeviceBackend> backend_;
  uint64_t sequence_ = 0;
};

// Sets a member of a Runtime for the life of the scope: Scoped guard(runtime.tag,
// MemoryTag::kWeights).
template <class T>
class [[nodiscard]] Scoped {
 public:
  Scoped(T& target, T value) : target_(target), before_(target) { target_ = value; }
  ~Scoped() { target_ = before_; }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;

 private:
  T& target_;
  T before_;
};

}  // namespace ink
