// What InternEvo's log line says of a step (train.compat.log_line): gathered when the step is
// issued and when it was read. Rank 0's trainer owns one.
#pragma once

#include <string>
#include <vector>

#include "data/loader/data_set.h"
#include "launch/report/run_log.h"
#include "launch/trainer/train_step.h"

namespace ink {

// Types of text, as the line names them: the last part of every source's path, which for a folder
// of InternEvo is the first-level folder. Sources of one name are one type.
struct TextTypes {
  std::vector<std::string> names;
  std::vector<int64_t> type_of_source;  // by HostBatch::source_ids
};
[[nodiscard]] TextTypes text_types(const DataSet& data);

// The documents of this rank's micro-batches, padding left out.
struct BatchShape {
  int64_t documents = 0, longest = 0, most = 0, fewest = 0;  // most, fewest: of a micro-batch
};
[[nodiscard]] BatchShape shape_of(std::span<const HostBatch> micro_batches);

// Of one step, beside what StepRow says.
struct ReferenceFacts {
  BatchShape shape;
  int64_t tokens = 0;           // of the global batch, padding included
  int64_t consumed_tokens = 0;  // of the run so far, those included
  int64_t micro_batches = 0;    // of this rank
};

class ReferenceLog {
 public:
  ReferenceLog(TextTypes types, int devices) : types_(std::move(types)), devices_(devices) {}

  [[nodiscard]] ReferenceRow row(const StepRow& step, const StepResult& result,
                                 const ReferenceFacts& facts);

 private:
  TextTypes types_;
  int devices_;
  SpeedHistory history_;
};

}  // namespace ink
