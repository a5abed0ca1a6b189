// Planning a session when reading the data may mean tokenising it first.
//
// Rank 0 alone makes the cache; the others must not sit in one collective meanwhile, whose time-out
// they would meet. They all ask each other every half second whether rank 0 is ready, and then open
// the finished cache themselves.
#pragma once

#include "launch/rendezvous/agreement.h"
#include "launch/trainer/session.h"

namespace ink {

// Collective. AgreedExit when any rank cannot plan; with code 75 when a stop was asked for
// meanwhile.
[[nodiscard]] SessionPlan plan_on_all_ranks(Launch& launch, const LoadedRun& loaded,
                                            const DeviceSeat& seat, const SessionFlags& flags,
                                            bool quiet);

}  // namespace ink
