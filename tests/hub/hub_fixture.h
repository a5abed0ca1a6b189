// Small models and directories for the tests of models/hub.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "engine/io/json.h"
#include "engine/io/safetensors_writer.h"
#include "models/hub/config_json.h"
#include "models/hub/export.h"
#include "models/hub/hf_directory.h"
#include "models/hub/import.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/golden_folder.h"

namespace ink {

inline std::filesystem::path golden(std::string_view name) { return golden_folder(name); }

inline const std::vector<std::string>& golden_models() {
  static const std::vector<std::string> names = {"internlm1",      "internlm2", "internlm2_tied",
                                                 "internlm2_wide", "internlm3", "llama_tied",
                                                 "qwen2_tied"};
  return names;
}

inline ModelOptions golden_options(std::string_view name) {
  return read_config_json(SafeDirectory(golden(name))).model;
}

// Parameters of a model, zero or counted up, in one dtype.
class TestWeights {
 public:
  TestWeights(const ModelOptions& model, DType dtype) {
    for (const ParameterMap& map : hf_parameter_maps(model, hf_names_of(model.family))) {
      Tensor tensor = zeros(runtime_, map.shape, dtype);
      tensors_.push_back({map.name, tensor});
    }
  }

  // Every element different from its neighbours, exact in bf16 and f16.
  void count_up() {
    int64_t next = 0;
    for (NamedTensor& weight : tensors_) {
      std::vector<float> values(static_cast<size_t>(weight.value.numel()));
      for (float& value : values) value = static_cast<float>(next++ % 251) / 128.0f - 1.0f;
      convert_elements(values.data(), DType::kF32, weight.value.raw(), weight.value.dtype(),
                       weight.value.numel());
    }
  }
  [[nodiscard]] std::span<const NamedTensor> span() const { return tensors_; }
  [[nodiscard]] const Tensor& at(std::string_view name) const {
    for (const NamedTensor& weight : tensors_) {
      if (weight.name == name) return weight.value;
    }
    throw InternalError("no parameter " + std::string(name));
  }
  [[nodiscard]] std::map<std::string, std::string> bytes() const {
    std::map<std::string, std::string> all;
    for (const NamedTensor& w : tensors_) {
      all[w.name] = std::string(static_cast<const char*>(w.value.raw()),
                                static_cast<size_t>(w.value.bytes()));
    }
    return all;
  }

 private:
  Runtime runtime_;
  std::vector<NamedTensor> tensors_;
};

// The bytes of every tensor of a directory, by Hugging Face name.
inline std::map<std::string, std::string> tensor_bytes(const std::filesystem::path& path) {
  const HfDirectory directory(path);
  std::map<std::string, std::string> all;
  for (const auto& [name, location] : directory.tensors()) {
    std::string bytes(location.entry->bytes(), '\0');
    location.read(0, std::as_writable_bytes(std::span(bytes)));
    all[name] = bytes;
  }
  return all;
}

struct TestTensor {
  std::string name;
  Shape shape;
  std::vector<float> values;
};

inline void write_tensors(const std::filesystem::path& path,
                          const std::vector<TestTensor>& tensors) {
  std::vector<SafetensorsSpec> specs;
  for (const TestTensor& t : tensors) specs.push_back({t.name, DType::kF32, t.shape});
  SafetensorsWriter writer(path, specs);
  for (const TestTensor& t : tensors) writer.write(t.name, std::as_bytes(std::span(t.values)));
  (void)writer.finish();
}

// All tensors of a golden model, to be changed and written again.
inline std::vector<TestTensor> golden_tensors(std::string_view name) {
  const HfDirectory directory(golden(name));
  std::vector<TestTensor> tensors;
  for (const auto& [tensor, location] : directory.tensors()) {
    TestTensor copy{tensor, Shape(location.entry->shape), {}};
    copy.values.resize(static_cast<size_t>(location.entry->numel()));
    location.read(0, std::as_writable_bytes(std::span(copy.values)));
    tensors.push_back(std::move(copy));
  }
  return tensors;
}

inline TestTensor& tensor_named(std::vector<TestTensor>& tensors, std::string_view name) {
  for (TestTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw InternalError("no tensor " + std::string(name));
}

}  // namespace ink
