#include "parallel/comm/wait_watch.h"

#include "parallel/comm/process_group.h"

namespace ink {

std::string describe_wait(const ProcessGroup& group, const FlightRecord& call, double seconds) {
  return fmt::format("rank {} of {} waited {:.1f} s in {} (call {}, {} bytes)", group.rank(),
                     group.size(), seconds, call.op, call.sequence, call.bytes);
}

}  // namespace ink
