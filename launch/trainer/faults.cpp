#include "launch/trainer/faults.h"

#include <chrono>
#include <thread>

#include "launch/trainer/nan_gradient.h"

namespace ink {

std::function<void()> gradient_fault(const std::optional<FaultSection>& faults, int64_t step,
                                     int rank, const ParameterTable& table) {
  if (!faults || !faults->nan_gradient || faults->nan_gradient->step != step) return {};
  // Every rank must leave its reductions to the end of the step, so that all issue them in the same
  // order.
  if (faults->nan_gradient->rank != rank) return [] {};
  return [&table] { write_nan_gradient(table); };
}

void step_delay(const std::optional<FaultSection>& faults, int rank) {
  if (!faults || !faults->step_delay_ms || faults->step_delay_rank.value_or(rank) != rank) return;
  std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(*faults->step_delay_ms));
}

}  // namespace ink
