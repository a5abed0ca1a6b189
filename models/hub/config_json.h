// config.json of a Hugging Face directory <-> ModelOptions.
//
// Reading accepts every spelling in use (transformers 4 and 5, InternLM's own classes) and guesses
// nothing: a shape, the norm's epsilon or the rope base that is absent is an error, because class
// defaults differ between releases. A field whose value changes the arithmetic and is not
// implemented is an error too; other unknown fields are handed back, to be named once in the log.
// Errors are Error 3 with `config.json: key: expected ..., got ...`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/model_options.h"
#include "engine/core/dtype.h"
#include "engine/io/safe_path.h"
#include "models/hub/names.h"

namespace ink {

struct HfConfig {
  ModelOptions model;                // max_position_embeddings 0: the file does not say
  std::optional<DType> dtype;        // torch_dtype or dtype
  std::vector<std::string> notices;  // lines for the log: unknown fields, ignored remote code
};

[[nodiscard]] HfConfig parse_config_json(const nlohmann::json& document, const std::string& place);
[[nodiscard]] HfConfig read_config_json(const SafeDirectory& directory);

// Ids that end generation: generation_config.json's eos_token_id where it has one, else the
// model's.
[[nodiscard]] std::vector<int64_t> read_stop_ids(const SafeDirectory& directory,
                                                 const ModelOptions& model);

// The public class a model is written for.
enum class HfClass { kLlama, kInternLM2, kQwen2 };
// Qwen2 for Qwen2, Llama for everything else.
[[nodiscard]] HfClass default_hf_class(Family family);
[[nodiscard]] HfNames hf_names_of(HfClass hf_class);
[[nodiscard]] std::string_view model_type_of(HfClass hf_class);  // "llama"
// Error 2 when the class cannot express the model: other biases, or InternLM2's derived head_dim.
void require_expressible(const ModelOptions& model, HfClass hf_class);

// Older key names, which every release reads, plus head_dim. `auto_map` is added by the exporter.
[[nodiscard]] nlohmann::ordered_json write_config_json(const ModelOptions& model, HfClass hf_class,
                                                       DType dtype);
[[nodiscard]] nlohmann::ordered_json write_generation_config(const ModelOptions& model,
                                                             const std::vector<int64_t>& stop_ids);

}  // namespace ink
