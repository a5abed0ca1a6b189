// Ranks as threads of one process, for tests: the same interface, the same rules, no launcher.
//
// make_thread_groups(n) returns one group per rank; each is handed to its own thread. Reductions
// add in rank order on every rank, so results are bit-equal. A rank that leaves with an exception
// calls abort(), and the others' waits end.
#pragma once

#include <memory>
#include <vector>

#include "parallel/comm/process_group.h"

namespace ink {

[[nodiscard]] std::vector<std::unique_ptr<ProcessGroup>> make_thread_groups(
    int size, GroupOptions options = {});

}  // namespace ink
