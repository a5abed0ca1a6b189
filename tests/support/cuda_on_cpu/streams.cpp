#include "tests/support/cuda_on_cpu/streams.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUevent_st {
  std::shared_ptr<CUstream_st> stream;  // outlives its handle: an event of it may still be asked
  int64_t ticket = 0;                   // done when the stream has finished so many pieces of work
  CUgraph_st* graph = nullptr;          // of the capture it was recorded in
  int64_t captured = 0;                 // what the stream had put into it by then
  std::shared_ptr<std::chrono::steady_clock::time_point> reached;  // none: made without timing
};
// What a stream does next: `run`, once `ready` is true (none: at once).
struct Item {
  Work run;
  std::function<bool()> ready;
};
// What the streams of a device have in common.
struct Card {
  std::recursive_mutex mutex;  // they run each other's work, in either direction
  bool failed = false;         // by a kernel: every later wait or question says so
};
struct CUstream_st : std::enable_shared_from_this<CUstream_st> {
  CUstream_st(int on, Card& of_device) : device(on), card(of_device), mutex(of_device.mutex) {}
  const int device;
  Card& card;
  std::recursive_mutex& mutex;
  std::deque<Item> queue;
  int64_t enqueued = 0, finished = 0;
  int asked = 0;                // queries since something was enqueued
  CUgraph_st* graph = nullptr;  // while capturing
  int64_t captured = 0;  // put into the graph; other streams of the capture wait for `joined`
  int64_t joined = 0;
  bool strict = false;  // the capture forbids memory management meanwhile
  bool origin = false;  // of the capture
};

namespace ink::cuda_on_cpu {
namespace {

Streams policy = Streams::kAtOnce;
cudaError_t refusal = cudaSuccess;  // of graphs
std::mutex registry_mutex;
std::map<int, Card> cards;
std::set<std::shared_ptr<CUstream_st>> registry;
std::set<CUgraph_st*> open_captures;
thread_local int captures = 0;

// Does the caller wait for work that has to wait itself?
enum class Patience : unsigned char { kNone, kAll };

// Runs a stream's work up to the ticket. A failing kernel shows as it does on a card: later, as a
// launch failure of the device; what went wrong is printed where it happened.
cudaError_t drain(CUstream_st* stream, int64_t ticket, Patience patience) {
  std::unique_lock lock(stream->mutex);
  if (stream->card.failed) return remember(cudaErrorLaunchFailure);
  while (stream->finished < ticket && !stream->queue.empty()) {
    const auto& ready = stream->queue.front().ready;
    if (ready && !ready()) {
      if (patience == Patience::kNone) return cudaErrorNotReady;
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      lock.lock();
      continue;
    }
    const Item item = std::move(stream->queue.front());
    stream->queue.pop_front();
    ++stream->finished;
    try {
      if (item.run) item.run();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "cuda_on_cpu: %s\n", error.what());
      stream->finished += static_cast<int64_t>(stream->queue.size());
      stream->queue.clear();  // behind a failed kernel nothing runs
      stream->card.failed = true;
      return remember(cudaErrorLaunchFailure);
    }
  }
  return cudaSuccess;
}

cudaError_t put(CUstream_st* stream, Item item) {
  stream->queue.push_back(std::move(item));
  ++stream->enqueued;
  stream->asked = 0;
  if (policy == Streams::kLate) return cudaSuccess;
  const cudaError_t result = drain(stream, stream->enqueued, Patience::kNone);
  return result == cudaErrorNotReady ? cudaSuccess : result;
}

// Who asks once may be told "not yet"; who asks again waits for it, so that even late work is done.
cudaError_t ask(CUstream_st* stream, int64_t ticket) {
  const std::lock_guard lock(stream->mutex);
  ++stream->asked;
  if (stream->card.failed) return remember(cudaErrorLaunchFailure);
  if (policy == Streams::kAtOnce || stream->asked > 1) {
    const cudaError_t result = drain(stream, ticket, Patience::kNone);
    if (result != cudaSuccess && result != cudaErrorNotReady) return result;
  }
  return stream->finished >= ticket ? cudaSuccess : remember(cudaErrorNotReady);
}

// The stream joins the capture that the event was recorded in.
cudaError_t wait_in_capture(CUstream_st* stream, const CUevent_st& event) {
  const std::lock_guard lock(registry_mutex);
  if (open_captures.count(event.graph) == 0) return remember(cudaErrorStreamCaptureUnsupported);
  stream->graph = event.graph;
  event.stream->joined = std::max(event.stream->joined, event.captured);
  return cudaSuccess;
}

// Every other stream of a capture, all of one device, must have been waited for.
bool all_joined(CUstream_st* origin) {
  return std::all_of(registry.begin(), registry.end(), [&](const auto& stream) {
    return stream.get() == origin || stream->device != origin->device ||
           stream->graph != origin->graph || stream->captured == stream->joined;
  });
}

}  // namespace

void set_streams(Streams streams) { policy = streams; }
void refuse_graphs(cudaError_t reason) { refusal = reason; }
bool capturing() { return captures > 0; }
void repair_cards() {
  for (auto& [device, card] : cards) card.failed = false;
}

cudaError_t enqueue(cudaStream_t stream, Work work) {
  // The legacy default stream orders itself with everything: nothing of ours may use it.
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->mutex);
  if (stream->graph != nullptr) {
    stream->graph->work.push_back(std::move(work));
    ++stream->captured;
    return cudaSuccess;
  }
  return put(stream, {std::move(work), {}});
}

cudaError_t enqueue_when(cudaStream_t stream, std::function<bool()> ready) {
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->mutex);
  if (stream->graph != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  return put(stream, {{}, std::move(ready)});
}

}  // namespace ink::cuda_on_cpu

using ink::cuda_on_cpu::ask;
using ink::cuda_on_cpu::drain;
using ink::cuda_on_cpu::enqueue;
using ink::cuda_on_cpu::enqueue_when;
using ink::cuda_on_cpu::Patience;
using ink::cuda_on_cpu::remember;
using ink::cuda_on_cpu::wait_in_capture;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  int device = 0;
  (void)cudaGetDevice(&device);
  const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
  const auto made = std::make_shared<CUstream_st>(device, ink::cuda_on_cpu::cards[device]);
  *stream = made.get();
  ink::cuda_on_cpu::registry.insert(made);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const cudaError_t result = cudaStreamSynchronize(stream);
  const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
  if (ink::cuda_on_cpu::registry.erase(stream->shared_from_this()) == 0)
    return remember(cudaErrorInvalidResourceHandle);
  return result;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (stream->graph != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  return drain(stream, stream->enqueued, Patience::kAll);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (stream->graph != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  return ask(stream, stream->enqueued);
}

cudaError_t cudaDeviceSynchronize() {
  int device = 0;
  (void)cudaGetDevice(&device);
  std::vector<std::shared_ptr<CUstream_st>> streams;
  {
    const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
    for (const auto& stream : ink::cuda_on_cpu::registry) {
      if (stream->device == device) streams.push_back(stream);
    }
  }
  for (const auto& stream : streams) {
    if (const cudaError_t error = cudaStreamSynchronize(stream.get())) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (stream == nullptr || event == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (event->graph != nullptr) return wait_in_capture(stream, *event);
  if (event->stream == nullptr) return cudaSuccess;
  // A graph cannot depend on what is not in it (cudaErrorStreamCaptureIsolation on a card).
  if (stream->graph != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  if (event->stream.get() == stream) return cudaSuccess;
  const auto reached = [from = event->stream, ticket = event->ticket] {
    return drain(from.get(), ticket, Patience::kNone) != cudaErrorNotReady;
  };
  return enqueue_when(stream, reached);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;  // freed by cudaEventDestroy
  if (flags != cudaEventDisableTiming)
    (*event)->reached = std::make_shared<std::chrono::steady_clock::time_point>();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->mutex);
  event->stream = stream->shared_from_this();
  event->graph = stream->graph;
  event->captured = stream->captured;
  cudaError_t result = cudaSuccess;
  if (event->reached != nullptr && event->graph == nullptr) {
    const auto stamp = [at = event->reached] { *at = std::chrono::steady_clock::now(); };
    result = enqueue(stream, stamp);
  }
  event->ticket = stream->enqueued;
  return result;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->graph != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  if (event->stream == nullptr) return cudaSuccess;
  return drain(event->stream.get(), event->ticket, Patience::kAll);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->graph != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  return event->stream == nullptr ? cudaSuccess : ask(event->stream.get(), event->ticket);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (start->reached == nullptr || end->reached == nullptr)
    return remember(cudaErrorInvalidResourceHandle);
  if (cudaEventQuery(start) != cudaSuccess || cudaEventQuery(end) != cudaSuccess)
    return remember(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(*end->reached - *start->reached).count();
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

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (stream == nullptr || stream->graph != nullptr)
    return remember(cudaErrorStreamCaptureUnsupported);
  stream->graph = new CUgraph_st;  // handed out by cudaStreamEndCapture
  {
    const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
    ink::cuda_on_cpu::open_captures.insert(stream->graph);
  }
  stream->origin = true;
  stream->strict = mode != cudaStreamCaptureModeRelaxed;
  if (stream->strict) ++ink::cuda_on_cpu::captures;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!stream->origin) return remember(cudaErrorStreamCaptureUnsupported);
  *graph = stream->graph;
  const std::lock_guard lock(ink::cuda_on_cpu::registry_mutex);
  const bool whole = ink::cuda_on_cpu::all_joined(stream);
  for (const auto& other : ink::cuda_on_cpu::registry) {
    if (other->device != stream->device || other->graph != *graph) continue;
    other->graph = nullptr;
    other->captured = other->joined = 0;
  }
  ink::cuda_on_cpu::open_captures.erase(*graph);
  stream->origin = false;
  if (stream->strict) --ink::cuda_on_cpu::captures;
  if (whole) return cudaSuccess;
  delete std::exchange(*graph, nullptr);
  return remember(cudaErrorStreamCaptureUnsupported);  // cudaErrorStreamCaptureUnjoined on a card
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream->graph != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (ink::cuda_on_cpu::refusal != cudaSuccess) return remember(ink::cuda_on_cpu::refusal);
  *exec = new CUgraphExec_st{graph->work};  // freed by cudaGraphExecDestroy
  return cudaSuccess;
}

// The count alone: nodes are not for anybody to look at.
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void** nodes, std::size_t* count) {
  if (nodes != nullptr) return remember(cudaErrorInvalidValue);
  *count = graph->work.size();
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
