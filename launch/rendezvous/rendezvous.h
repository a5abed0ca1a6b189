// How a process finds out whether it is one of several, and gets the group of all of them.
//
// Under mpirun or srun (an MPI launcher's environment is present) MPI is initialised; otherwise the
// process is alone and the library is never touched. finish() must be called once on the way out,
// by every rank, with the code it leaves with.
#pragma once

#include <memory>

#include "engine/core/error.h"
#include "parallel/comm/process_group.h"

namespace ink {

struct Launch {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  // among the ranks of this host
  std::unique_ptr<ProcessGroup> world;
};

// Error(kConfig) when a launcher started several ranks and this build has no MPI.
[[nodiscard]] Launch join_launch(GroupOptions options = {});
// Ends the transport. agreed: every rank is leaving with this code. Otherwise the process ends here
// and takes the job with it.
void leave_launch(Launch& launch, ExitCode code, bool agreed);

// The highest code of any rank, and the lowest rank that has it. Collective.
struct Verdict {
  ExitCode code = ExitCode::kDone;
  int rank = 0;
};
[[nodiscard]] Verdict agree(Launch& launch, ExitCode mine);

// True when an MPI launcher's environment is present.
[[nodiscard]] bool started_by_launcher();

// rendezvous/mpi.cpp, only where the build has MPI.
[[nodiscard]] Launch join_mpi(GroupOptions options);
void leave_mpi(Launch& launch, ExitCode code, bool agreed);

}  // namespace ink
