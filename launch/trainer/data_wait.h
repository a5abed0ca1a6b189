// Planning a session when reading the data may mean tokenising it first.
//
// Rank 0 alone makes the cache; the others must not sit in one collective meanwhile, whose time-out
// they would meet. They all ask each other every half second whether rank 0 is ready, and then open
// the finished cache themselves.
#pragma once

#include <functional>

#include "launch/rendezvous/agreement.h"
#include "launch/report/progress_line.h"
#include "launch/trainer/session.h"

namespace ink {

// What tells how far tokenising has come; Error(kStopped) when a stop was asked for: there is no
// state yet to save.
[[nodiscard]] std::function<void(const PrepareProgress&)> tell_tokenising(ProgressLine& line);

// Collective. AgreedExit when any rank cannot plan; with code 75 when a stop was asked for
// meanwhile.
[[nodiscard]] SessionPlan plan_on_all_ranks(Launch& launch, const LoadedRun& loaded,
                                            const DeviceSeat& seat, const SessionFlags& flags,
                                            bool quiet);

}  // namespace ink
