// The training state of one rank, copied to the host: what a save writes and a load gives back.
//
// Taken at a step boundary; once it exists the run may go on and change the tensors. Names are
// global: `param/NAME`, `master/NAME`, `exp_avg/NAME`, `exp_avg_sq/NAME`. Where a master exists the
// parameter is its rounding and is stored as well, so that a load needs no arithmetic.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "engine/nn/parameter.h"
#include "optim/update/adamw.h"

namespace ink {

// A tensor of the state and the record of the parameter it belongs to.
struct StateTensor {
  std::string name;
  const Parameter* parameter = nullptr;
  Tensor tensor;
};

// Every tensor of the training state, in the order of the table.
[[nodiscard]] std::vector<StateTensor> state_tensors(const ParameterTable& table, AdamW& optimizer);

struct HostTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape, local_shape;  // global, of this rank
  std::vector<Piece> pieces;
  std::vector<std::byte> bytes;
};

struct Snapshot {
  int64_t step = 0;
  nlohmann::json trainer;  // counters, sampler, schedule: everything that is not a tensor
  std::vector<HostTensor> tensors;
};

[[nodiscard]] Snapshot take_snapshot(int64_t step, nlohmann::json trainer,
                                     std::span<const StateTensor> tensors);

// The clock of the optimizer as JSON, exact: doubles as their bits.
[[nodiscard]] nlohmann::json to_json(const StepState& state);
[[nodiscard]] StepState step_state_from_json(const nlohmann::json& json, const std::string& place);

}  // namespace ink
