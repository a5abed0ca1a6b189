// A reference model: a tiny checkpoint and what torch and transformers computed from it. Read by
// the parity tests.
//
// Tensors are compared under their Hugging Face names, each alone, so that a wrong gradient of one
// norm cannot hide in a global one. Values are f64 copies.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "configs/schema/model_options.h"
#include "engine/io/safetensors_reader.h"
#include "engine/nn/parameter.h"
#include "tests/support/golden_folder.h"
#include "tests/support/values.h"

namespace ink {

using NamedValues = std::map<std::string, Values>;

class Golden {
 public:
  explicit Golden(std::string_view name);

  [[nodiscard]] const ModelOptions& options() const { return options_; }
  [[nodiscard]] const nlohmann::json& expected() const { return expected_; }  // expected.json
  [[nodiscard]] Values tensor(std::string_view name) const;  // of expected.safetensors
  // All tensors whose names start with the prefix, under the rest of their names.
  [[nodiscard]] NamedValues tensors(std::string_view prefix) const;
  // The numbers that end the names which start so, rising: "logits.row" gives the rows.
  [[nodiscard]] std::vector<int64_t> numbers(std::string_view prefix) const;
  // model.safetensors into the parameters of a materialized model.
  void load(const ParameterTable& table) const;

 private:
  std::filesystem::path folder_;
  ModelOptions options_;
  nlohmann::json expected_;
  SafetensorsReader tensors_;
};

// The values of all parameters under their Hugging Face names; value_of takes ours.
[[nodiscard]] NamedValues hf_values(const ModelOptions& options,
                                    const std::function<Values(const std::string&)>& value_of);

// Elements of a float or i32 tensor of a file.
[[nodiscard]] Values read_values(const SafetensorsReader& file, std::string_view name);

// Largest rel-F over the tensors; infinity when the names differ. `worst` receives its name.
[[nodiscard]] double worst_distance(const NamedValues& got, const NamedValues& want,
                                    std::string* worst = nullptr);
// A gtest failure for every tensor that is farther than the tolerance.
void expect_close(const NamedValues& got, const NamedValues& want, double tolerance,
                  std::string_view what);

}  // namespace ink
