// Flag values with the grammar of run files: sizes such as 10MB, data formats by name.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/data_options.h"
#include "configs/schema/field.h"
#include "configs/schema/model_keys.h"
#include "configs/schema/train_options.h"

namespace ink {

// `10MB`, `512KiB`, `4096`; Error(kConfig) names the flag.
[[nodiscard]] int64_t parse_bytes_flag(const std::string& flag, const std::string& text);
[[nodiscard]] DataFormat parse_format_flag(const std::string& text);
// --dtype of a model that computes; empty: nothing.
[[nodiscard]] std::optional<Precision> parse_precision_flag(const std::string& text);
// --device: auto, cpu or cuda.
[[nodiscard]] DeviceChoice parse_device_flag(const std::string& text);

// Checks for option->check(): the message says what was expected and got.
[[nodiscard]] CLI::Validator one_of(std::vector<std::string> names);
[[nodiscard]] CLI::Validator positive();
// For option->transform(): an integer in the grammar of run files, 4k is 4000.
[[nodiscard]] CLI::Validator whole(const Rule& rule);

}  // namespace ink
