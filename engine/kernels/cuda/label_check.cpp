#include "engine/kernels/cuda/label_check.h"

#include <atomic>

#include "engine/tensor/cuda_error.h"

namespace ink {

LabelCheck::LabelCheck(CudaBackend& backend) : backend_(backend) {
  void* memory = nullptr;
  check_cuda(cudaMallocHost(&memory, sizeof(BadLabel)), "cudaMallocHost");
  report_ = new (memory) BadLabel{0, 0};
  backend_.add_guard(*this);
}

LabelCheck::~LabelCheck() {
  backend_.remove_guard(*this);
  (void)cudaFreeHost(report_);
}

void LabelCheck::look() {
  const std::atomic_ref<uint64_t> word(report_->row_and_label);
  const uint64_t found = word.load(std::memory_order_acquire);
  if (found == 0) return;
  word.store(0, std::memory_order_relaxed);
  throw InternalError(fmt::format("[cross_entropy] label {} of row {}, V={}",
                                  static_cast<uint32_t>(found), (found >> 32) - 1,
                                  report_->vocabulary));
}

}  // namespace ink
