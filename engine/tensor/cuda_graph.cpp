#include "engine/tensor/cuda_graph.h"

#include "engine/tensor/cuda_backend.h"
#include "engine/tensor/cuda_error.h"

namespace ink {
namespace {

// Ends the capture whatever happens in it.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    // Relaxed: the allocator may ask the card for a segment in the middle of it.
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "begin of a graph");
  }
  ~Capture() {
    cudaGraph_t abandoned = nullptr;
    if (stream_ != nullptr) {
      (void)cudaStreamEndCapture(stream_, &abandoned);
      (void)cudaGetLastError();  // what spoilt it has been thrown
    }
    if (abandoned != nullptr) (void)cudaGraphDestroy(abandoned);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  [[nodiscard]] cudaGraph_t end() {
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(std::exchange(stream_, nullptr), &graph), "end of a graph");
    return graph;
  }

 private:
  cudaStream_t stream_;
};

}  // namespace

CudaGraph::CudaGraph(CudaBackend& backend, const std::function<void()>& work) : backend_(backend) {
  Capture capture(backend.stream());
  work();
  const cudaGraph_t graph = capture.end();
  const cudaError_t made = cudaGraphInstantiate(&exec_, graph, 0);
  (void)cudaGraphDestroy(graph);
  check_cuda(made, "cudaGraphInstantiate");
}

CudaGraph::~CudaGraph() { (void)cudaGraphExecDestroy(exec_); }

void CudaGraph::launch() {
  check_cuda(cudaGraphLaunch(exec_, backend_.stream()), "cudaGraphLaunch");
  backend_.launched("micro-batch graph");
}

}  // namespace ink
