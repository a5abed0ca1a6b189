#include "launch/model_source.h"

#include <algorithm>
#include <map>

#include "configs/schema/run_file.h"
#include "configs/schema/yaml_reader.h"
#include "engine/io/json.h"
#include "models/hub/hf_directory.h"
#include "models/hub/weights.h"
#include "optim/checkpoint/load.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

bool has_weights(const fs::path& directory) {
  return std::ranges::any_of(fs::directory_iterator(directory), [](const auto& entry) {
    const std::string name = entry.path().filename().string();
    return name == "model.safetensors.index.json" || name.ends_with(".safetensors");
  });
}

bool has_run(const fs::path& directory) {
  return fs::exists(directory / "run.yaml") || fs::exists(directory / "metrics.jsonl") ||
         !find_checkpoints(directory).empty();
}

std::string tokenizer_of(const fs::path& directory) {
  for (const char* name : {"tokenizer.model", "tokenizer.json"})
    if (fs::exists(directory / name)) return directory.string();
  return {};
}

// Reads `name` of the state into a parameter, converting where the types differ.
void load_parameter(const OpenedCheckpoint& checkpoint, const std::string& name, DType stored,
                    const Parameter& parameter) {
  const Tensor& value = parameter.value();
  if (stored == value.dtype()) {
    const StateTensor direct{name, &parameter, value};
    load_state(checkpoint.path, checkpoint.manifest, {&direct, 1});
    return;
  }
  // Converted on the host, whatever the device: a checkpoint is a file.
  Runtime host;
  const Tensor staged(host, parameter.local_shape, stored, MemoryTag::kWorkspace);
  const StateTensor state{name, &parameter, staged};
  load_state(checkpoint.path, checkpoint.manifest, {&state, 1});
  std::vector<std::byte> converted(static_cast<size_t>(value.bytes()));
  convert_elements(staged.raw(), stored, converted.data(), value.dtype(), value.numel());
  value.runtime().backend().copy_from_host(value.raw(), converted.data(), value.bytes());
}

void load_from_state(const OpenedCheckpoint& checkpoint, const ParameterTable& table) {
  const std::string place = (checkpoint.path / "manifest.json").string();
  for (const auto& parameter : table.all()) {
    if (!parameter->tied_to.empty()) continue;
    const ManifestTensor* rounded = checkpoint.manifest.find("param/" + parameter->name);
    if (rounded == nullptr) {
      throw Error(ExitCode::kBadInput, place,
                  fmt::format("expected tensor param/{}, got none of that name", parameter->name));
    }
    const ManifestTensor* master = checkpoint.manifest.find("master/" + parameter->name);
    const bool wider = size_of(parameter->value().dtype()) > size_of(rounded->dtype);
    const ManifestTensor& from = master != nullptr && wider ? *master : *rounded;
    load_parameter(checkpoint, from.name, from.dtype, *parameter);
  }
}

}  // namespace

ModelPathKind model_path_kind(const fs::path& path) {
  if (!fs::is_directory(path)) {
    throw Error(ExitCode::kBadInput, path.string(),
                fmt::format("expected a model directory, got {}",
                            fs::exists(path) ? "a file" : "nothing of that name"));
  }
  if (fs::exists(path / "manifest.json") || fs::exists(path / "state"))
    return ModelPathKind::kCheckpoint;
  if (fs::exists(path / "config.json") || has_weights(path)) return ModelPathKind::kHuggingFace;
  if (has_run(path)) return ModelPathKind::kRun;
  throw Error(ExitCode::kBadInput, path.string(),
              "expected config.json (Hugging Face), manifest.json (a checkpoint) or run.yaml (a "
              "run), got none of them");
}

ModelPlan plan_checkpoint(const OpenedCheckpoint& checkpoint, const DeviceSeat& seat) {
  const std::string place = (checkpoint.path / "manifest.json").string();
  const JsonReader trainer(checkpoint.manifest.trainer, place, "trainer");
  const std::string text = trainer.string("config");
  try {
    const LoadedRun run = read_run(parse_yaml(text, place + ": trainer.config"));
    ModelPlan plan = plan_model(run.options.model, run.places, seat);
    plan.weights.clear();
    return plan;
  } catch (const Error& error) {
    throw Error(ExitCode::kBadInput, error.place(), error.what(), error.hint());
  }
}

ModelSource open_model(const fs::path& path, WeightForm form, std::optional<Precision> dtype,
                       Verify verify, const DeviceSeat& seat) {
  if (model_path_kind(path) == ModelPathKind::kHuggingFace)
    return {.plan = plan_hf_model(path, dtype, seat), .checkpoint = std::nullopt};
  OpenedCheckpoint checkpoint = open_checkpoint(path, verify == Verify::kYes);
  const fs::path beside = checkpoint.path / "hf";
  const bool has_hf = fs::exists(beside / "config.json");
  if (has_hf && form == WeightForm::kAny)
    return {.plan = plan_hf_model(beside, dtype, seat), .checkpoint = std::move(checkpoint)};
  ModelPlan plan = plan_checkpoint(checkpoint, seat);
  if (const std::string tokenizer = has_hf ? tokenizer_of(beside) : ""; !tokenizer.empty())
    plan.tokenizer = tokenizer;
  if (dtype) {
    const DType narrow = native_compute(seat) == DType::kF16 ? DType::kF16 : DType::kBF16;
    plan.compute = *dtype == Precision::kF32   ? DType::kF32
                   : *dtype == Precision::kF16 ? DType::kF16
                                               : narrow;
  }
  return {.plan = std::move(plan), .checkpoint = std::move(checkpoint)};
}

LoadedModel load_model(Runtime& runtime, const ModelSource& source) {
  LoadedModel loaded{.instance = std::make_unique<ModelInstance>(runtime, source.plan),
                     .notices = source.plan.notices};
  if (source.checkpoint) {
    for (const std::string& notice : source.checkpoint->notices) loaded.notices.push_back(notice);
  }
  if (source.plan.weights.empty()) {
    load_from_state(*source.checkpoint, loaded.instance->parameters());
  } else {
    for (std::string& notice : loaded.instance->fill(0)) loaded.notices.push_back(notice);
  }
  return loaded;
}

DType stored_dtype(const ModelSource& source) {
  std::map<DType, int64_t> elements;
  if (source.plan.weights.empty()) {
    for (const ManifestTensor& tensor : source.checkpoint->manifest.tensors)
      if (tensor.name.starts_with("param/")) elements[tensor.dtype] += tensor.shape.numel();
  } else {
    const HfDirectory directory(source.plan.weights);
    for (const auto& [name, location] : directory.tensors())
      if (location.entry->dtype->native)
        elements[*location.entry->dtype->native] += location.entry->numel();
  }
  const auto most = std::ranges::max_element(elements, {}, [](const auto& e) { return e.second; });
  return most == elements.end() ? DType::kF32 : most->first;
}

}  // namespace ink
