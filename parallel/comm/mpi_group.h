// The MPI transport: host tensors over Open MPI. MPI must have been initialised (launch/rendezvous)
// with MPI_THREAD_MULTIPLE; all traffic runs on one communication thread that the groups of a
// process share.
#pragma once

#include <memory>

#include "parallel/comm/process_group.h"

namespace ink {

// The group of all processes of the job.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_mpi_world(GroupOptions options = {});

}  // namespace ink
