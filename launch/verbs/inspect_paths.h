// What a path holds, as JSON, for every kind of path but weights (models/hub/describe.h): the parts
// of `inspect`.
//
// Every object opens with `kind` and `path`. With Verify::kYes an object also has `verified: true`,
// or there is the Error that `train` would give.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "launch/model_source.h"

namespace ink {

// {kind: "checkpoint", step, run_id, created, writer, bytes, files, parameters, dtypes, trainer,
// hf, tensors}
[[nodiscard]] nlohmann::ordered_json describe_checkpoint(const std::filesystem::path& path,
                                                         Verify verify);
// {kind: "run", checkpoints: [{name, step, problem}], last_step: the last step row}
[[nodiscard]] nlohmann::ordered_json describe_run_directory(const std::filesystem::path& path,
                                                            Verify verify);
// {kind: "token store", header fields, train: {...}, eval: {...}}
[[nodiscard]] nlohmann::ordered_json describe_store(const std::filesystem::path& path,
                                                    Verify verify);
// {kind: "config", model, matmul_parameters}
[[nodiscard]] nlohmann::ordered_json describe_config(const std::filesystem::path& path);

}  // namespace ink
