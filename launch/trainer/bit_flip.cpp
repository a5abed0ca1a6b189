#include "launch/trainer/bit_flip.h"

#include <algorithm>
#include <string>

namespace ink {
namespace {

bool is_due(const std::optional<BitFlip>& fault, int64_t step, int rank) {
  return fault && fault->step == step && fault->rank == rank;
}

const OptimizerSlot* slot_of(const BitFlip& fault, std::span<const OptimizerSlot> slots) {
  if (!fault.parameter) return slots.empty() ? nullptr : &slots.back();
  const auto found = std::ranges::find_if(
      slots, [&](const OptimizerSlot& slot) { return slot.parameter->name == *fault.parameter; });
  return found == slots.end() ? nullptr : &*found;
}

const Tensor& lasting_value(const OptimizerSlot& slot) {
  return slot.master.defined() ? slot.master : slot.parameter->value();
}

void flip(const Tensor& tensor, const BitFlip& fault) {
  DeviceBackend& backend = tensor.runtime().backend();
  auto* byte = static_cast<unsigned char*>(tensor.raw()) + fault.element * size_of(tensor.dtype()) +
               fault.bit / 8;
  unsigned char value = 0;
  backend.copy_to_host(&value, byte, 1);
  value = static_cast<unsigned char>(value ^ (1U << (fault.bit % 8)));
  backend.copy_from_host(byte, &value, 1);
}

void check(const std::string& key, const std::optional<BitFlip>& fault, int ranks, DType dtype,
           std::span<const OptimizerSlot> slots) {
  if (!fault) return;
  const auto refuse = [&](const char* member, const std::string& message) {
    throw Error(ExitCode::kConfig, fmt::format("faults.{}.{}", key, member), message);
  };
  if (fault->rank >= ranks)
    refuse("rank", fmt::format("expected a rank below {}, got {}", ranks, fault->rank));
  const OptimizerSlot* slot = slot_of(*fault, slots);
  if (slot == nullptr)
    refuse("parameter", fmt::format("expected the name of a trained parameter, got {}",
                                    fault->parameter.value_or("none")));
  const Parameter& parameter = *slot->parameter;
  if (fault->element >= parameter.value().numel())
    refuse("element", fmt::format("expected one of the {} elements of {}, got {}",
                                  parameter.value().numel(), parameter.name, fault->element));
  const int64_t bits = 8 * size_of(dtype);
  if (fault->bit >= bits)
    refuse("bit",
           fmt::format("expected a bit below {} of {}, got {}", bits, name_of(dtype), fault->bit));
}

}  // namespace

void check_bit_flips(const std::optional<FaultSection>& faults, int ranks,
                     std::span<const OptimizerSlot> slots) {
  if (!faults) return;
  const auto dtype_of_value = [&](const OptimizerSlot* slot) {
    return slot == nullptr ? DType::kF32 : lasting_value(*slot).dtype();
  };
  const auto dtype_of_gradient = [&](const OptimizerSlot* slot) {
    return slot == nullptr ? DType::kF32 : slot->parameter->leaf()->grad_dtype;
  };
  if (const auto& fault = faults->flip_parameter_bit)
    check("flip_parameter_bit", fault, ranks, dtype_of_value(slot_of(*fault, slots)), slots);
  if (const auto& fault = faults->flip_gradient_bit)
    check("flip_gradient_bit", fault, ranks, dtype_of_gradient(slot_of(*fault, slots)), slots);
}

std::function<void()> gradient_flip(const std::optional<FaultSection>& faults, int64_t step,
                                    int rank, std::span<const OptimizerSlot> slots) {
  if (!faults || !is_due(faults->flip_gradient_bit, step, rank)) return {};
  return [slots, fault = *faults->flip_gradient_bit] {
    flip(slot_of(fault, slots)->parameter->grad(), fault);
  };
}

void flip_parameter(const std::optional<FaultSection>& faults, int64_t step, int rank,
                    std::span<const OptimizerSlot> slots) {
  if (!faults || !is_due(faults->flip_parameter_bit, step, rank)) return;
  flip(lasting_value(*slot_of(*faults->flip_parameter_bit, slots)), *faults->flip_parameter_bit);
}

}  // namespace ink
