// Who looks on while a rank waits in a collective: decides whether the wait still makes sense.
//
// A transport calls waiting() from the thread that waits, about ten times a second, once a wait has
// lasted a tenth of a second. Throwing ends the wait and the group; without a watch the deadline of
// GroupOptions ends it. What is thrown is Error(kPeer) and begins with describe_wait().
#pragma once

#include <string>

#include "parallel/comm/flight_recorder.h"

namespace ink {

class ProcessGroup;

class WaitWatch {
 public:
  virtual ~WaitWatch() = default;
  virtual void waiting(const ProcessGroup& group, const FlightRecord& call, double seconds) = 0;
};

// "rank 0 of 2 waited 10.2 s in all_reduce (call 87, 2048 bytes)".
[[nodiscard]] std::string describe_wait(const ProcessGroup& group, const FlightRecord& call,
                                        double seconds);

}  // namespace ink
