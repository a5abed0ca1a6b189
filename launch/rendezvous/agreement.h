// Phases that every rank goes through before training: if one fails, all leave with one code and
// one voice.
#pragma once

#include <exception>
#include <utility>

#include "launch/cli/error_report.h"
#include "launch/rendezvous/rendezvous.h"

namespace ink {

// All ranks are leaving with this code; whoever knew the cause has said it.
struct AgreedExit {
  ExitCode code;
};

// Runs f on every rank. If any rank fails, the lowest one that has the highest code reports and all
// throw AgreedExit.
template <class F>
void agreed(Launch& launch, F&& f) {
  std::exception_ptr failure;
  ExitCode mine = ExitCode::kDone;
  try {
    std::forward<F>(f)();
  } catch (const std::exception&) {
    failure = std::current_exception();
    mine = current_error().code();
  }
  const Verdict verdict = agree(launch, mine);
  if (verdict.code == ExitCode::kDone) return;
  if (failure && launch.rank == verdict.rank) {
    try {
      std::rethrow_exception(failure);
    } catch (...) {
      report_current_exception();
    }
  }
  throw AgreedExit{verdict.code};
}

}  // namespace ink
