#include "launch/trainer/data_wait.h"

#include <chrono>
#include <future>

#include "launch/trainer/signals.h"

namespace ink {
namespace {

// Everybody returns together, once rank 0's `done` says so.
void wait_for_rank_0(Launch& launch, const std::function<bool()>& done) {
  Runtime runtime;
  for (;;) {
    const std::vector<int32_t> mine{launch.rank == 0 && done() ? 1 : 0};
    const Tensor flag = to_tensor(runtime, mine);
    launch.world->all_reduce(flag, ReduceOp::kMax)->wait();
    if (to_vector<int32_t>(flag)[0] != 0) return;
  }
}

}  // namespace

std::function<void(const PrepareProgress&)> tell_tokenising(ProgressLine& line) {
  return [&line](const PrepareProgress& progress) {
    line.show(fmt::format("tokenising: {} documents, {} tokens, {:.1f} MB", progress.documents,
                          progress.tokens, static_cast<double>(progress.bytes) / 1e6));
    if (stop_signal() != 0)
      throw Error(ExitCode::kStopped, "data.train",
                  "stopped while the text was tokenised: nothing was trained, nothing is saved");
  };
}

SessionPlan plan_on_all_ranks(Launch& launch, const LoadedRun& loaded, const DeviceSeat& seat,
                              const SessionFlags& flags, bool quiet) {
  const auto plan_and_tell = [&] {
    ProgressLine line(quiet);
    return plan_session(loaded, launch.size, seat, flags, tell_tokenising(line));
  };
  SessionPlan plan;
  if (launch.size == 1) {
    agreed(launch, [&] { plan = plan_and_tell(); });
    return plan;
  }
  std::future<SessionPlan> made;
  if (launch.rank == 0) made = std::async(std::launch::async, plan_and_tell);
  wait_for_rank_0(launch, [&] {
    return made.wait_for(std::chrono::milliseconds(500)) == std::future_status::ready;
  });
  // First rank 0's verdict, so that the others do not begin to tokenise what it could not.
  agreed(launch, [&] {
    if (launch.rank == 0) plan = made.get();
  });
  agreed(launch, [&] {
    if (launch.rank != 0) plan = plan_session(loaded, launch.size, seat, flags, {});
  });
  return plan;
}

}  // namespace ink
