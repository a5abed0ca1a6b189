// A model as a Hugging Face directory that transformers loads without code of ours.
//
// Equal input gives equal bytes, from any layout. The directory appears complete or not at all.
// Weights go to `model.safetensors`, or, above max_shard_bytes, to numbered shards with an index;
// config.json and generation_config.json stand beside them. Choices the class cannot express are
// Error 2, a full disk is Error 4.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "configs/schema/model_options.h"
#include "engine/io/atomic_file.h"
#include "models/hub/config_json.h"
#include "models/hub/weights.h"

namespace ink {

struct ExportOptions {
  std::optional<HfClass> hf_class;  // none: default_hf_class of the family
  DType dtype = DType::kBF16;       // f32, bf16 or f16
  uint64_t max_shard_bytes = 2'000'000'000;
  std::vector<int64_t> stop_ids;  // for generation_config.json; empty: the model's
  // InternLM2 names need the class's Python files, which are copied from here with their auto_map.
  std::filesystem::path remote_code_from;
  Existing existing = Existing::kRefuse;
  // Writes tokenizer files into the directory before it is published.
  std::function<void(const std::filesystem::path& directory)> write_more;
};

struct ExportReport {
  struct Written {
    std::string name, sha256;
    uint64_t bytes = 0;
  };
  std::vector<Written> weight_files;
  Notices notices;  // such as values beyond the range of f16
};

// `weights` are the model's parameters, all of them, in any order.
ExportReport write_hf(const std::filesystem::path& directory, const ModelOptions& model,
                      std::span<const NamedTensor> weights, const ExportOptions& options = {});

}  // namespace ink
