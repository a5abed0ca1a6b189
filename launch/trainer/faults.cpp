#include "launch/trainer/faults.h"

#include <chrono>
#include <thread>

namespace ink {

std::function<void()> gradient_fault(const std::optional<FaultSection>& faults, int64_t step,
                                     int rank, const ParameterTable& table) {
  if (!faults || !faults->nan_gradient || faults->nan_gradient->step != step) return {};
  // Every rank must leave its reductions to the end of the step, so that all issue them in the same
  // order.
  if (faults->nan_gradient->rank != rank) return [] {};
  return [&table] {
    Tensor& grad = table.all().front()->grad();
    const uint32_t nan = ~uint32_t{0};  // in f32 and in bf16
    grad.runtime().backend().copy_from_host(grad.raw(), &nan, sizeof nan);
  };
}

void step_delay(const std::optional<FaultSection>& faults, int rank) {
  if (!faults || !faults->step_delay_ms || faults->step_delay_rank.value_or(rank) != rank) return;
  std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(*faults->step_delay_ms));
}

}  // namespace ink
