// A recorded run of the backend's stream.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <memory>

#include "engine/tensor/backend.h"

namespace ink {

class CudaBackend;

class CudaGraph final : public DeviceGraph {
 public:
  // Records what `work` issues to the backend's stream, and to streams that wait for it and are
  // waited for in turn. Throws what `work` throws; nothing is recorded then.
  CudaGraph(CudaBackend& backend, const std::function<void()>& work);
  ~CudaGraph() override;
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  void launch() override;

 private:
  CudaBackend& backend_;
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace ink
