#include "tests/support/cuda_on_cpu/streams.h"

#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUevent_st {
  CUstream_st* stream = nullptr;
  int64_t ticket = 0;  // done when the stream has finished so many pieces of work
  CUgraph_st* graph = nullptr;
  std::chrono::steady_clock::time_point reached;
};
struct CUstream_st {
  std::recursive_mutex mutex;
  std::deque<Work> queue;
  int64_t enqueued = 0, finished = 0;
  CUgraph_st* graph = nullptr;  // while capturing
  bool origin = false;          // of the capture
};

namespace ink::cuda_on_cpu {
namespace {

Streams policy = Streams::kAtOnce;
std::mutex registry_mutex;
std::set<CUstream_st*> registry;
thread_local int captures = 0;

// Runs a stream's work up to the ticket. A failing kernel shows as it does on a card: later, as a
// launch failure of the device; what went wrong is printed where it happened.
cudaError_t drain(CUstream_st* stream, int64_t ticket) {
  const std::lock_guard lock(stream->mutex);
  while (stream->finished < ticket && !stream->queue.empty()) {
    const Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    ++stream->finished;
    try {
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "cuda_on_cpu: %s\n", error.what());
      return remember(cudaErrorLaunchFailure);
    }
  }
  return cudaSuccess;
}

}  // namespace

void set_streams(Streams streams) { policy = streams; }
bool capturing() { return captures > 0; }

cudaError_t enqueue(cudaStream_t stream, Work work) {
  // The legacy default stream orders itself with everything: nothing of ours may use it.
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->mutex);
  if (stream->graph != nullptr) {
    stream->graph->work.push_back(std::move(work));
    return cudaSuccess;
  }
  stream->queue.push_back(std::move(work));
  ++stream->enqueued;
  return policy == Streams::kAtOnce ? drain(stream, stream->enqueued) : cudaSuccess;
}

}  // namespace ink::cuda_on_cpu

using ink::cuda_on_cpu::drain;
using ink::cuda_on_cpu::enqueue;
using ink::cuda_on_cpu::remember;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;  // freed by cudaStreamDestroy
  const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
  ink::cuda_on_cpu::registry.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const cudaError_t result = cudaStreamSynchronize(stream);
  const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
  if (ink::cuda_on_cpu::registry.erase(stream) == 0)
    return remember(cudaErrorInvalidResourceHandle);
  delete stream;
  return result;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (stream->graph != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  return drain(stream, stream->enqueued);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const std::lock_guard lock(stream->mutex);
  return stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  std::vector<CUstream_st*> streams;
  {
    const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
    streams.assign(ink::cuda_on_cpu::registry.begin(), ink::cuda_on_cpu::registry.end());
  }
  for (CUstream_st* stream : streams) {
    if (const cudaError_t error = drain(stream, stream->enqueued)) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (stream == nullptr || event == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (event->graph != nullptr) {  // the stream joins the capture
    stream->graph = event->graph;
    return cudaSuccess;
  }
  if (event->stream == nullptr || event->stream == stream) return cudaSuccess;
  return enqueue(stream, [from = event->stream, ticket = event->ticket] { drain(from, ticket); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;  // freed by cudaEventDestroy
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->mutex);
  event->stream = stream;
  event->graph = stream->graph;
  event->ticket = stream->enqueued;
  event->reached = std::chrono::steady_clock::now();
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->graph != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  return event->stream == nullptr ? cudaSuccess : drain(event->stream, event->ticket);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->stream == nullptr) return cudaSuccess;
  const std::lock_guard lock(event->stream->mutex);
  return event->stream->finished >= event->ticket ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->reached - start->reached).count();
  return cudaSuccess;
}

// Pageable memory: what is read is taken now, what is written is there on return. Pinned memory is
// read and written when the stream gets there.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const bool pageable = (kind == cudaMemcpyHostToDevice && !ink::cuda_on_cpu::is_pinned(from)) ||
                        (kind == cudaMemcpyDeviceToHost && !ink::cuda_on_cpu::is_pinned(to));
  if (!pageable) return enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  if (stream != nullptr && stream->graph != nullptr)
    return remember(cudaErrorStreamCaptureUnsupported);
  if (kind == cudaMemcpyHostToDevice) {
    const auto* first = static_cast<const char*>(from);
    auto taken = std::make_shared<std::vector<char>>(first, first + bytes);
    return enqueue(stream, [=] { std::memcpy(to, taken->data(), bytes); });
  }
  const cudaError_t error = enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return error != cudaSuccess ? error : cudaStreamSynchronize(stream);
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memset(pointer, value, bytes); });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream->graph != nullptr)
    return remember(cudaErrorStreamCaptureUnsupported);
  stream->graph = new CUgraph_st;  // handed out by cudaStreamEndCapture
  stream->origin = true;
  ++ink::cuda_on_cpu::captures;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!stream->origin) return remember(cudaErrorStreamCaptureUnsupported);
  *graph = stream->graph;
  const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
  for (CUstream_st* other : ink::cuda_on_cpu::registry) {
    if (other->graph == *graph) other->graph = nullptr;
  }
  stream->origin = false;
  --ink::cuda_on_cpu::captures;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream->graph != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->work};  // freed by cudaGraphExecDestroy
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  for (const Work& work : exec->work) {
    if (const cudaError_t error = enqueue(stream, work)) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
