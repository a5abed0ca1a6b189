#include "engine/tensor/cuda_graph.h"

#include "engine/tensor/cuda_backend.h"
#include "engine/tensor/cuda_error.h"

namespace ink {

StreamCapture::StreamCapture(cudaStream_t stream) : stream_(stream) {
  // Relaxed: the allocator may ask the card for a segment in the middle of it.
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "begin of a graph");
}

StreamCapture::~StreamCapture() {
  cudaGraph_t abandoned = nullptr;
  if (stream_ != nullptr) {
    (void)cudaStreamEndCapture(stream_, &abandoned);
    (void)cudaGetLastError();  // what spoilt it has been thrown
  }
  if (abandoned != nullptr) (void)cudaGraphDestroy(abandoned);
}

cudaGraph_t StreamCapture::end() {
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(std::exchange(stream_, nullptr), &graph), "end of a graph");
  return graph;
}

void CudaGraph::record(const std::function<void()>& work) {
  capture_.emplace(backend_.stream());
  work();
  end_part({});
}

void CudaGraph::interlude(std::function<void()> host) {
  end_part(std::move(host));
  capture_.emplace(backend_.stream());
}

void CudaGraph::end_part(std::function<void()> host) {
  const cudaGraph_t graph = capture_->end();
  capture_.reset();
  size_t nodes = 0;
  cudaGraphExec_t exec = nullptr;
  cudaError_t made = cudaGraphGetNodes(graph, nullptr, &nodes);
  if (made == cudaSuccess && nodes > 0) made = cudaGraphInstantiate(&exec, graph, 0);
  (void)cudaGraphDestroy(graph);
  if (made != cudaSuccess) {
    (void)cudaGetLastError();
    // Memory for the graph itself, too: what it holds can still be done without one.
    throw InternalError(fmt::format("[cudaGraphInstantiate] {}: {}", cudaGetErrorName(made),
                                    cudaGetErrorString(made)));
  }
  parts_.emplace_back().device.reset(exec);
  parts_.back().host = std::move(host);
}

void CudaGraph::launch() {
  for (const Part& part : parts_) {
    if (part.device) {
      backend_.check(cudaGraphLaunch(part.device.get(), backend_.stream()), "cudaGraphLaunch");
      backend_.launched("micro-batch graph");
    }
    if (part.host) part.host();
  }
}

}  // namespace ink
