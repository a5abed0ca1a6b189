// A model with its parameters on one rank: what training, generation, export and inspection share.
//
// Built from a run file's `model` section (random start or import) or from a Hugging Face
// directory. Owns the parameter table and the decoder; the Runtime is the caller's and must outlive
// it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "configs/schema/run_options.h"
#include "engine/nn/parameter.h"
#include "launch/device_choice.h"
#include "models/common/decoder.h"
#include "models/common/uniform_init.h"
#include "models/hub/import.h"

namespace ink {

// The architecture and compute type that a `model` section resolves to, from headers alone.
struct ModelPlan {
  ModelOptions options;
  DType compute = DType::kF32;
  Device device = Device::kCpu;         // where it computes
  DType gradients = DType::kF32;        // of its matrices, where it is trained
  std::filesystem::path weights;        // Hugging Face directory; empty = random start
  InitShape init = InitShape::kNormal;  // of a random start
  UniformWidth uniform_width = UniformWidth::kExact;  // where init is kUniform
  std::string tokenizer;             // path; empty = none named and none beside the weights
  ImportOptions import;              // what may be missing or not finite
  std::vector<std::string> notices;  // lines for the log
};

// Headers of the weights are checked here, so that nothing is allocated for a directory that does
// not fit. seat: where the model will compute; its fastest type is the one that is meant where the
// run file names none.
[[nodiscard]] ModelPlan plan_model(const ModelSection& section, const Places& places,
                                   const DeviceSeat& seat = {}, const ImportOptions& import = {});
// dtype: overrides what config.json says.
[[nodiscard]] ModelPlan plan_hf_model(const std::filesystem::path& directory,
                                      std::optional<Precision> dtype, const DeviceSeat& seat = {});

class ModelInstance {
 public:
  // Allocates the weights, uninitialised.
  ModelInstance(Runtime& runtime, const ModelPlan& plan);

  // Fills them: by the family's rule, or from the plan's directory. Returns lines for the log.
  std::vector<std::string> fill(uint64_t seed);

  [[nodiscard]] const Decoder& decoder() const { return *decoder_; }
  [[nodiscard]] ParameterTable& parameters() { return table_; }
  [[nodiscard]] const ModelPlan& plan() const { return plan_; }

 private:
  Runtime& runtime_;
  ModelPlan plan_;
  ParameterTable table_;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace ink
