#include "launch/trainer/rollbacks.h"

#include "engine/io/json.h"

namespace ink {

nlohmann::json Rollbacks::to_json() const {
  nlohmann::json ranges = nlohmann::json::array();
  for (const StepRange& range : passed_over) ranges.push_back({range.first, range.last});
  return {{"count", count}, {"passed_over", ranges}};
}

Rollbacks Rollbacks::from_json(const nlohmann::json& json, const std::string& place) {
  const JsonReader reader(json, place, "trainer.rollbacks");
  constexpr const char* kRanges = "a list of [first, last] of steps from 1";
  Rollbacks rollbacks{.count = reader.integer("count", 1), .passed_over = {}};
  const nlohmann::json& ranges = reader.at("passed_over");
  if (!ranges.is_array()) throw reader.error("passed_over", kRanges);
  for (const nlohmann::json& range : ranges) {
    const bool is_pair = range.is_array() && range.size() == 2 && range[0].is_number_integer() &&
                         range[1].is_number_integer();
    if (!is_pair || range[0] < 1 || range[1] < range[0]) throw reader.error("passed_over", kRanges);
    rollbacks.passed_over.push_back({range[0].get<int64_t>(), range[1].get<int64_t>()});
  }
  return rollbacks;
}

}  // namespace ink
