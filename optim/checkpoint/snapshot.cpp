#include "optim/checkpoint/snapshot.h"

#include <bit>

#include "engine/io/json.h"

namespace ink {
namespace {

// Calls f(key, member) for every counter, then every real number; one list for both directions.
template <class State, class Integer, class Real>
void visit(State& s, Integer&& integer, Real&& real) {
  integer("updates", s.updates);
  integer("skipped", s.skipped);
  integer("skipped_in_a_row", s.skipped_in_a_row);
  integer("clean_steps", s.clean_steps);
  integer("hysteresis_left", s.hysteresis_left);
  real("loss_scale", s.loss_scale);
  real("lr", s.lr);
  real("grad_norm", s.grad_norm);
  real("grad_factor", s.grad_factor);
  real("beta2", s.beta2);
  real("bias1", s.bias1);
  real("bias2", s.bias2);
}

}  // namespace

std::vector<StateTensor> state_tensors(const ParameterTable& table, AdamW& optimizer) {
  std::vector<StateTensor> tensors;
  for (const auto& parameter : table.all()) {
    if (parameter->tied_to.empty())
      tensors.push_back({"param/" + parameter->name, parameter.get(), parameter->value()});
  }
  for (const OptimizerSlot& slot : optimizer.slots()) {
    const std::string& name = slot.parameter->name;
    if (slot.master.defined()) tensors.push_back({"master/" + name, slot.parameter, slot.master});
    tensors.push_back({"exp_avg/" + name, slot.parameter, slot.m});
    tensors.push_back({"exp_avg_sq/" + name, slot.parameter, slot.v});
  }
  return tensors;
}

Snapshot take_snapshot(int64_t step, nlohmann::json trainer, std::span<const StateTensor> tensors) {
  Snapshot snapshot{.step = step, .trainer = std::move(trainer)};
  for (const StateTensor& state : tensors) {
    const Tensor& t = state.tensor;
    HostTensor host{.name = state.name,
                    .dtype = t.dtype(),
                    .shape = state.parameter->shape,
                    .local_shape = t.shape(),
                    .pieces = state.parameter->pieces};
    host.bytes.resize(static_cast<size_t>(t.bytes()));
    t.runtime().backend().copy_to_host(host.bytes.data(), t.raw(), t.bytes());
    snapshot.tensors.push_back(std::move(host));
  }
  return snapshot;
}

nlohmann::json to_json(const StepState& state) {
  nlohmann::json json = nlohmann::json::object();
  visit(
      state, [&](const char* key, int64_t value) { json[key] = value; },
      [&](const char* key, double value) { json[key] = std::bit_cast<int64_t>(value); });
  return json;
}

StepState step_state_from_json(const nlohmann::json& json, const std::string& place) {
  const JsonReader reader(json, place, "optimizer");
  StepState state;
  visit(
      state, [&](const char* key, int64_t& value) { value = reader.integer(key); },
      [&](const char* key, double& value) { value = std::bit_cast<double>(reader.integer(key)); });
  return state;
}

}  // namespace ink
