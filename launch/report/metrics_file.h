// metrics.jsonl: one JSON object per line, in a fixed order of fields; `event` names the row.
//
// Rows are appended and written through at once. Numbers are printed so that they read back
// exactly; what is not finite, and what does not apply to a row, is null. read_metrics gives the
// rows of earlier parts to whoever draws them again.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "launch/report/append_file.h"
#include "launch/report/run_log.h"

namespace ink {

class MetricsFile {
 public:
  // A last line without its line break is what a crash left: it is cut.
  explicit MetricsFile(const std::filesystem::path& path);

  void run(const RunRow& row, const std::string& version);
  void step(const StepRow& row, std::optional<double> eta);
  void eval(const EvalRow& row);
  void checkpoint(const CheckpointRow& row);
  void sample(const SampleRow& row);
  void warning(const std::string& code, const std::string& text);
  void spike(const SpikeRow& row, const std::string& text);
  void rollback(const RollbackRow& row, const std::string& text);
  void self_check(const SelfCheckRow& row);
  void end(const EndRow& row);

 private:
  void write(const nlohmann::ordered_json& row);

  AppendFile file_;
};

// Mean over the sets, weighted by their tokens; 0 without tokens.
[[nodiscard]] double mean_loss(const EvalRow& row);

// Calls `each` with every row in the order of the file. Error 3 names the line that is no JSON
// object.
void read_metrics(const std::filesystem::path& path,
                  const std::function<void(const nlohmann::json&, const std::string& place)>& each);

}  // namespace ink
