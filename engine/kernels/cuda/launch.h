// How a kernel of this folder is started: into the stream of its tensors' rank, with its name for
// error messages. All shared memory is dynamic: a kernel names one struct and takes it with
// shared_memory<S>() (device.cuh); its launch passes sizeof(S), and more than 48 KiB is asked for
// here.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "engine/tensor/cuda_backend.h"
#include "engine/tensor/cuda_error.h"

namespace ink {

struct LaunchShape {
  dim3 grid, block;
  int64_t shared_bytes = 0;
};

// A grid with no blocks is no launch.
template <class... P, class... A>
void launch(CudaBackend& backend, const char* op, const LaunchShape& shape, void (*kernel)(P...),
            A&&... arguments) {
  constexpr int64_t kAlwaysAllowed = int64_t{48} << 10;
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  if (shape.shared_bytes > kAlwaysAllowed)
    backend.check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(shape.shared_bytes)),
                  op);
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = backend.stream();
  backend.check(cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...), op);
  backend.launched(op);
}

[[nodiscard]] inline unsigned blocks_for(int64_t items, int64_t per_block) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  CHECK(blocks <= 0x7fffffff, "{} items of {} are too many blocks", items, per_block);
  return static_cast<unsigned>(blocks);
}

}  // namespace ink
