// The model that a path on the command line names: a Hugging Face directory, a checkpoint (step-N)
// or a run directory (its newest whole checkpoint). Shared by `generate`, `export` and `inspect`.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/model_instance.h"
#include "optim/checkpoint/find.h"

namespace ink {

enum class ModelPathKind { kHuggingFace, kCheckpoint, kRun };
// By what lies in the directory, headers unread. Error 3 when it is none of them.
[[nodiscard]] ModelPathKind model_path_kind(const std::filesystem::path& path);

// kAny: of a checkpoint the `hf/` beside its state, where there is one. kState: always the state,
// which may hold master weights of a wider type.
enum class WeightForm { kAny, kState };
// Whether the hashes of a checkpoint's files are compared before it is used.
enum class Verify { kYes, kNo };

struct ModelSource {
  ModelPlan plan;  // plan.weights: the directory the weights come from; empty: the state below
  std::optional<OpenedCheckpoint> checkpoint;
};

// Reads headers only, besides the hashes. dtype: overrules the compute type. seat: where the model
// will compute.
[[nodiscard]] ModelSource open_model(const std::filesystem::path& path, WeightForm form,
                                     std::optional<Precision> dtype, Verify verify,
                                     const DeviceSeat& seat = {});
// The architecture and the tokenizer of the run that wrote the checkpoint.
[[nodiscard]] ModelPlan plan_checkpoint(const OpenedCheckpoint& checkpoint,
                                        const DeviceSeat& seat = {});

struct LoadedModel {
  std::unique_ptr<ModelInstance> instance;
  std::vector<std::string> notices;  // lines for the log
};
// Allocates in plan.compute and fills. A parameter comes from its master where there is one and
// plan.compute is wider than what the rounded parameter is stored in.
[[nodiscard]] LoadedModel load_model(Runtime& runtime, const ModelSource& source);

// The type that most of the source's weights are stored in.
[[nodiscard]] DType stored_dtype(const ModelSource& source);

}  // namespace ink
