// Memory that ran out, with what was in use at that moment: launch computes from it which settings
// would have fitted.
#pragma once

#include "engine/core/error.h"
#include "engine/tensor/allocator.h"

namespace ink {

class OutOfMemory final : public Error {
 public:
  // wanted: bytes of the request that failed.
  OutOfMemory(std::string place, const std::string& message, int64_t wanted,
              const MemoryReport& report)
      : Error(ExitCode::kOutOfMemory, std::move(place), message + "\n" + report.table(),
              "lower train.micro_batch_size or data.max_length, set train.recompute: full, or "
              "optim.state_dtype: bf16"),
        wanted_(wanted),
        report_(report) {}

  [[nodiscard]] int64_t wanted() const { return wanted_; }
  [[nodiscard]] const MemoryReport& report() const { return report_; }
  // Bytes that could be had: the limit, or without one what the system has given so far.
  [[nodiscard]] int64_t available() const {
    return report_.limit > 0 ? report_.limit : report_.reserved;
  }

 private:
  int64_t wanted_;
  MemoryReport report_;
};

}  // namespace ink
