// What a path holds, as data: a safetensors file or a Hugging Face directory. For `inspect`.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "configs/schema/model_options.h"

namespace ink {

enum class DescribeMode {
  kHeaders,  // what headers and config.json say
  kVerify,   // also the tensors the model needs, and every value read and found finite
};

// File:      {kind: "safetensors", path, bytes, metadata, parameters, dtypes, tensors: [{name,
// dtype,
//             shape, bytes}]}
// Directory: {kind: "huggingface", path, bytes, files, parameters, dtypes, model: {...}, names,
//             stop_ids, notices, tensors: [{..., file}]}
// `dtypes` counts elements per dtype. With kVerify the result has `"verified": true`, or an Error
// as training would give it.
[[nodiscard]] nlohmann::ordered_json describe(const std::filesystem::path& path,
                                              DescribeMode mode = DescribeMode::kHeaders);
// The `model` object of a directory: {family, parameters, hidden_size, ...}.
[[nodiscard]] nlohmann::ordered_json describe_model(const ModelOptions& model);

}  // namespace ink
