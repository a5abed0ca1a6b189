#include "tests/cli/guard_case.h"

namespace ink {

using nlohmann::json;

namespace {

std::string row_of(bool poisoned) {
  json ids = json::array();
  for (int t = 0; t < 32; ++t) ids.push_back(poisoned ? 20 + (t * t * 7 + t * 13) % 70 : 7 + t % 2);
  return json{{"input_ids", ids}}.dump() + "\n";
}

}  // namespace

PoisonedRun::PoisonedRun(const Workplace& place) {
  std::string rows;
  for (int64_t row = 0; row < 2 * kSteps; ++row) rows += row_of(row == 47);
  place.write("rows.jsonl", rows);
  place.write("poison.jsonl", row_of(true) + row_of(true));
  place.write_run(
      "train: {steps: 30, global_batch_size: 2, loss_watchdog: {factor: 5, window: 8}}\n"
      "checkpoint: {every: 1, keep: 99, hf: never, async: false}");
}

std::vector<std::string> PoisonedRun::arguments(const std::string& out,
                                                const std::vector<std::string>& more) {
  std::vector<std::string> words = {"train",
                                    "run.yaml",
                                    "--out",
                                    out,
                                    "data.train=[{path: rows.jsonl}]",
                                    "data.order=sequential",
                                    "optim.lr=0.02"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace ink
