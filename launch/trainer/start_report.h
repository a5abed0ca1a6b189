// What a run says before its first step and after its last.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/report/run_log.h"
#include "launch/trainer/trainer.h"

namespace ink {

struct StartFacts {
  std::string command;
  std::optional<OpenedCheckpoint> resume;
  std::vector<std::string> notices;
};

// The `run` row, the memory table, layout, counts, and the first pack decoded where there is a
// tokenizer.
void report_start(RunLog& log, Session& session, const StartFacts& facts);
void report_end(RunLog& log, Session& session, const Trainer& trainer, EndReason reason);

// For --dry-run: on stdout, the same facts from headers alone.
void print_plan(const SessionPlan& plan, int world);

// Bytes of disk that the next save needs.
[[nodiscard]] uint64_t save_estimate(const SessionPlan& plan);

}  // namespace ink
