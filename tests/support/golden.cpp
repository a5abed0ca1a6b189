#include "tests/support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "engine/io/json.h"
#include "models/hub/config_json.h"
#include "models/hub/import.h"
#include "tests/support/compare.h"

namespace ink {

namespace fs = std::filesystem;

Values read_values(const SafetensorsReader& file, std::string_view name) {
  const SafetensorsEntry* entry = file.table().find(name);
  CHECK(entry != nullptr, "{} has no tensor {}", file.place(), name);
  std::vector<std::byte> bytes(entry->bytes());
  file.read(*entry, 0, bytes);
  const auto count = static_cast<size_t>(entry->numel());
  if (entry->dtype->native == DType::kI32) {
    const auto* integers = reinterpret_cast<const int32_t*>(bytes.data());
    return {integers, integers + count};
  }
  CHECK(entry->dtype->native.has_value(), "{} is {}", name, entry->dtype->name);
  Values values(count);
  convert_elements(bytes.data(), *entry->dtype->native, values.data(), DType::kF64, entry->numel());
  return values;
}

Golden::Golden(std::string_view name)
    : folder_(golden_folder(name)),
      options_(read_config_json(SafeDirectory(folder_)).model),
      tensors_(SafetensorsReader::open(folder_ / "expected.safetensors")) {
  if (fs::exists(folder_ / "expected.json")) expected_ = read_json(folder_ / "expected.json");
}

Values Golden::tensor(std::string_view name) const { return read_values(tensors_, name); }

NamedValues Golden::tensors(std::string_view prefix) const {
  NamedValues found;
  for (const SafetensorsEntry& entry : tensors_.table().entries()) {
    if (entry.name.starts_with(prefix))
      found[entry.name.substr(prefix.size())] = read_values(tensors_, entry.name);
  }
  return found;
}

std::vector<int64_t> Golden::numbers(std::string_view prefix) const {
  std::vector<int64_t> found;
  for (const SafetensorsEntry& entry : tensors_.table().entries()) {
    if (entry.name.starts_with(prefix))
      found.push_back(std::stoll(entry.name.substr(prefix.size())));
  }
  CHECK(!found.empty(), "{} has no tensor {}*", tensors_.place(), prefix);
  std::sort(found.begin(), found.end());
  return found;
}

void Golden::load(const ParameterTable& table) const {
  const HfDirectory directory(folder_);
  const std::vector<NamedTensor> weights = weights_of(table);
  (void)load_weights(directory, options_, weights);
}

NamedValues hf_values(const ModelOptions& options,
                      const std::function<Values(const std::string&)>& value_of) {
  const std::vector<ParameterMap> maps = hf_parameter_maps(options, hf_names_of(options.family));
  std::vector<Values> ours;
  for (const ParameterMap& map : maps) ours.push_back(value_of(map.name));
  NamedValues all;
  for (const HfTensor& tensor : hf_tensors(maps)) {
    const int64_t width = row_width(tensor.shape);
    Values& values = all[tensor.name];
    for (const HfPiece& piece : tensor.pieces) {
      const auto first = ours[piece.parameter].begin() + piece.rows.local_row * width;
      values.insert(values.end(), first, first + piece.rows.count * width);
    }
  }
  return all;
}

double worst_distance(const NamedValues& got, const NamedValues& want, std::string* worst) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (got.size() != want.size()) return kInfinity;
  double largest = 0;
  for (const auto& [name, values] : want) {
    const auto found = got.find(name);
    if (found == got.end()) return kInfinity;
    const double distance = rel_frobenius(found->second, values);
    if (distance < largest) continue;
    largest = distance;
    if (worst != nullptr) *worst = name;
  }
  return largest;
}

void expect_close(const NamedValues& got, const NamedValues& want, double tolerance,
                  std::string_view what) {
  EXPECT_FALSE(want.empty()) << what;
  EXPECT_EQ(got.size(), want.size()) << what;
  for (const auto& [name, values] : want) {
    const auto found = got.find(name);
    if (found == got.end()) {
      ADD_FAILURE() << what << ": " << name << " is not there";
      continue;
    }
    EXPECT_LE(rel_frobenius(found->second, values), tolerance) << what << ": " << name;
  }
}

}  // namespace ink
