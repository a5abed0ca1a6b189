#include "launch/model_instance.h"

#include "models/family.h"
#include "models/hub/config_json.h"
#include "models/hub/hf_directory.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// What the model section or the stored weights ask for, as far as the device has it.
DType compute_of(const std::optional<Precision>& wanted, const std::optional<DType>& stored,
                 const DeviceSeat& seat, std::vector<std::string>& notices) {
  const DType native = native_compute(seat);
  if (wanted == Precision::kF16) return DType::kF16;
  if (wanted == Precision::kF32 || (!wanted && stored == DType::kF32)) return DType::kF32;
  if (wanted == Precision::kBf16 && native == DType::kF16) {
    notices.push_back(fmt::format("{} (sm_{}) has no bf16: computing in fp16 with loss scaling",
                                  seat.card->name, seat.card->capability));
    return DType::kF16;
  }
  return wanted ? DType::kBF16 : native;
}

std::string tokenizer_beside(const fs::path& directory) {
  const bool there =
      fs::exists(directory / "tokenizer.model") || fs::exists(directory / "tokenizer.json");
  return there ? directory.string() : "";
}

}  // namespace

ModelPlan plan_hf_model(const fs::path& directory, std::optional<Precision> dtype,
                        const DeviceSeat& seat) {
  const SafeDirectory files(directory);
  HfConfig config = read_config_json(files);
  ModelPlan plan{.options = config.model,
                 .weights = directory,
                 .tokenizer = tokenizer_beside(directory),
                 .notices = std::move(config.notices)};
  plan.compute = compute_of(dtype, config.dtype, seat, plan.notices);
  plan.device = seat.device;
  return plan;
}

ModelPlan plan_model(const ModelSection& section, const Places& places, const DeviceSeat& seat,
                     const ImportOptions& import) {
  ModelPlan plan;
  if (section.path) {
    plan = plan_hf_model(*section.path, section.dtype, seat);
    plan.options = overrule_model(section, plan.options,
                                  (fs::path(*section.path) / "config.json").string(), places);
    plan.import = import;
    static_cast<void>(check_import(HfDirectory(*section.path), plan.options, import));
  } else {
    plan.options = resolve_model(section, places);
    plan.compute = compute_of(section.dtype, std::nullopt, seat, plan.notices);
    plan.device = seat.device;
  }
  plan.init = section.init;
  if (section.tokenizer) plan.tokenizer = *section.tokenizer;
  return plan;
}

ModelInstance::ModelInstance(Runtime& runtime, const ModelPlan& plan)
    : runtime_(runtime), plan_(plan) {
  SerialBuilder builder(table_);
  decoder_ = make_model(builder, plan_.options);
  if (plan_.init == InitShape::kUniform) draw_uniformly(table_, plan_.uniform_width);
  table_.materialize(runtime_, plan_.compute, plan_.gradients);
}

std::vector<std::string> ModelInstance::fill(uint64_t seed) {
  if (plan_.weights.empty()) {
    table_.initialize(seed);
    return {};
  }
  if (!plan_.import.allow_missing.empty()) table_.initialize(seed);
  const HfDirectory directory(plan_.weights);
  const std::vector<NamedTensor> weights = weights_of(table_);
  std::vector<std::string> notices = directory.notices();
  for (std::string& notice : load_weights(directory, plan_.options, weights, plan_.import))
    notices.push_back(std::move(notice));
  return notices;
}

}  // namespace ink
