// Recorded runs of the backend's stream, and what the host does between them.
//
// Every interlude ends a CUDA graph and begins the next, so a launch is a row of graphs, and what
// the host issues in between (communication) is issued anew each time, outside of any capture.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "engine/tensor/backend.h"

namespace ink {

class CudaBackend;

// Ends the capture of a stream whatever happens in it.
class StreamCapture {
 public:
  explicit StreamCapture(cudaStream_t stream);
  ~StreamCapture();
  StreamCapture(const StreamCapture&) = delete;
  StreamCapture& operator=(const StreamCapture&) = delete;
  [[nodiscard]] cudaGraph_t end();

 private:
  cudaStream_t stream_;
};

class CudaGraph final : public DeviceGraph {
 public:
  explicit CudaGraph(CudaBackend& backend) : backend_(backend) {}
  // Records what `work` issues to the backend's stream, and to streams that wait for it and are
  // waited for in turn before the next interlude. Once. Throws what `work` throws; the graph is
  // good for nothing then.
  void record(const std::function<void()>& work);
  void interlude(std::function<void()> host);  // inside of record()
  void launch() override;

 private:
  struct Destroy {
    void operator()(cudaGraphExec_t exec) const { (void)cudaGraphExecDestroy(exec); }
  };
  // Device work, where there is any, and then the host's.
  struct Part {
    std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy> device;
    std::function<void()> host;
  };
  void end_part(std::function<void()> host);

  CudaBackend& backend_;
  std::vector<Part> parts_;
  std::optional<StreamCapture> capture_;
};

}  // namespace ink
