#include "launch/model_instance.h"

#include "engine/core/cpu_features.h"
#include "models/family.h"
#include "models/hub/config_json.h"
#include "models/hub/hf_directory.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

DType dtype_of(Precision precision) {
  return precision == Precision::kF32 ? DType::kF32 : DType::kBF16;
}

// bf16 where the processor multiplies in it, f32 elsewhere.
DType native_compute() { return has_avx512_bf16() || has_amx_bf16() ? DType::kBF16 : DType::kF32; }

DType compute_of(const std::optional<Precision>& wanted, const std::optional<DType>& stored) {
  if (wanted) return dtype_of(*wanted);
  if (stored == DType::kF32) return DType::kF32;
  return native_compute();
}

std::string tokenizer_beside(const fs::path& directory) {
  const bool there =
      fs::exists(directory / "tokenizer.model") || fs::exists(directory / "tokenizer.json");
  return there ? directory.string() : "";
}

}  // namespace

ModelPlan plan_hf_model(const fs::path& directory, std::optional<Precision> dtype) {
  const SafeDirectory files(directory);
  HfConfig config = read_config_json(files);
  return {.options = config.model,
          .compute = compute_of(dtype, config.dtype),
          .weights = directory,
          .tokenizer = tokenizer_beside(directory),
          .notices = std::move(config.notices)};
}

ModelPlan plan_model(const ModelSection& section, const Places& places,
                     const ImportOptions& import) {
  ModelPlan plan;
  if (section.path) {
    plan = plan_hf_model(*section.path, section.dtype);
    plan.options = overrule_model(section, plan.options,
                                  (fs::path(*section.path) / "config.json").string(), places);
    plan.import = import;
    static_cast<void>(check_import(HfDirectory(*section.path), plan.options, import));
  } else {
    plan.options = resolve_model(section, places);
    plan.compute = compute_of(section.dtype, std::nullopt);
  }
  if (section.tokenizer) plan.tokenizer = *section.tokenizer;
  return plan;
}

ModelInstance::ModelInstance(Runtime& runtime, const ModelPlan& plan)
    : runtime_(runtime), plan_(plan) {
  SerialBuilder builder(table_);
  decoder_ = make_model(builder, plan_.options);
  table_.materialize(runtime_, plan_.compute);
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
