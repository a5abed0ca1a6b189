// Named ranges of the host's time, nested, for a profiler that listens.
//
// Every kernel call and every phase of a training step opens one. Without a listener a range is a
// load and a branch; a device's profiling library becomes the listener before main (NVTX, in builds
// with CUDA, which itself does nothing outside of a profiler). Used from any thread.
#pragma once

#include <atomic>

namespace ink {

struct TraceListener {
  void (*begin)(const char* name) = nullptr;
  void (*end)() = nullptr;
};

namespace trace_detail {
inline constinit std::atomic<const TraceListener*> listener{nullptr};
}

// The listener must live to the end of the program. nullptr: nobody listens.
inline bool listen_to_traces(const TraceListener* listener) {
  trace_detail::listener.store(listener, std::memory_order_release);
  return true;
}

class [[nodiscard]] TraceRange {
 public:
  explicit TraceRange(const char* name)
      : listener_(trace_detail::listener.load(std::memory_order_acquire)) {
    if (listener_ != nullptr) listener_->begin(name);
  }
  ~TraceRange() {
    if (listener_ != nullptr) listener_->end();
  }
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;

 private:
  const TraceListener* listener_;
};

}  // namespace ink
