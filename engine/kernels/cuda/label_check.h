// Where kernels report a label that no column belongs to. A kernel cannot throw and the host does
// not wait for it, so it leaves the row and the label in host memory; the next wait of the host
// (the one that reads the loss) throws.
#pragma once

#include <cstdint>

#include "engine/tensor/cuda_backend.h"

namespace ink {

// In pinned host memory, written by the card. Zero: no such label so far.
struct BadLabel {
  int64_t vocabulary;
  uint64_t row_and_label;  // (row + 1) << 32 | label, in one word so that it is of one row
};

class LabelCheck final : public HostWaitGuard {
 public:
  explicit LabelCheck(CudaBackend& backend);
  ~LabelCheck() override;
  LabelCheck(const LabelCheck&) = delete;
  LabelCheck& operator=(const LabelCheck&) = delete;

  [[nodiscard]] BadLabel* report() const { return report_; }
  // InternalError with row, label and vocabulary once a kernel has reported.
  void look() override;

 private:
  CudaBackend& backend_;
  BadLabel* report_ = nullptr;
};

}  // namespace ink
