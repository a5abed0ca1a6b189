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

// Error(kOutOfMemory) with the levers when weights, gradients and optimizer alone are more than
// train.memory_limit or, without one, than the card has.
void require_memory(const SessionPlan& plan);

// Bytes of disk that the next save needs.
[[nodiscard]] uint64_t save_estimate(const SessionPlan& plan);

}  // namespace ink
