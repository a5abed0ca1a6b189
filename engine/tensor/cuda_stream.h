// A stream beside that of the kernels, and the events that order the two: what a transport or a
// copy engine needs to work while kernels run.
//
// Nothing here waits on the host. Errors are those of check_cuda().
#pragma once

#include <cuda_runtime.h>

#include "engine/tensor/cuda_error.h"

namespace ink {

// First in line: its work does not wait for the last block of a large kernel of another stream.
class UrgentStream {
 public:
  UrgentStream() {
    int least = 0, greatest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "stream priorities");
    check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest),
               "cudaStreamCreate");
  }
  ~UrgentStream() { (void)cudaStreamDestroy(stream_); }
  UrgentStream(const UrgentStream&) = delete;
  UrgentStream& operator=(const UrgentStream&) = delete;
  [[nodiscard]] cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Does an event keep when it was passed? One that does costs a little more.
enum class Timing : uint8_t { kNone, kKept };

// A point in a stream.
class StreamEvent {
 public:
  explicit StreamEvent(Timing timing = Timing::kNone) {
    const unsigned flags = timing == Timing::kKept ? 0 : cudaEventDisableTiming;
    check_cuda(cudaEventCreateWithFlags(&event_, flags), "cudaEventCreate");
  }
  ~StreamEvent() { (void)cudaEventDestroy(event_); }
  StreamEvent(const StreamEvent&) = delete;
  StreamEvent& operator=(const StreamEvent&) = delete;
  [[nodiscard]] cudaEvent_t get() const { return event_; }

  void record(cudaStream_t stream) const {
    check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  // What is issued to `stream` from here on waits for the recorded point.
  void hold(cudaStream_t stream) const {
    check_cuda(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
  }
  [[nodiscard]] bool passed() const {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();  // no error that the next launch may report
      return false;
    }
    check_cuda(state, "cudaEventQuery");
    return true;
  }
  // Both keep their times, and the host has waited for this one.
  [[nodiscard]] float milliseconds_since(const StreamEvent& start) const {
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, start.event_, event_), "cudaEventElapsedTime");
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace ink
