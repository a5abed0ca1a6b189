// How a process finds out whether it is one of several, and gets the group of all of them.
//
// Under mpirun or srun (an MPI launcher's environment is present) MPI is initialised, and the
// library is never touched otherwise. Without MPI, ranks that somebody starts one by one meet in a
// folder: INKSTONE_RENDEZVOUS_DIR (private, a new one per job), INKSTONE_RANKS and INKSTONE_RANK;
// INKSTONE_RENDEZVOUS_TIMEOUT says how many seconds they wait for each other (GroupOptions' else).
// Else the process is alone. leave_launch() must be called once on the way out, by every rank, with
// the code it leaves with.
#pragma once

#include <memory>
#include <string>

#include "engine/core/error.h"
#include "parallel/comm/process_group.h"

namespace ink {

struct Launch {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  // among the ranks of this host
  GroupOptions options;                // of `world`, and of other groups of the same ranks
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

// rendezvous/folder.cpp. folder: INKSTONE_RENDEZVOUS_DIR. Returns when all ranks have come; Error
// (kPeer) names those that have not, Error(kConfig) a rank that was started twice or a used folder.
[[nodiscard]] Launch join_folder(const std::string& folder, GroupOptions options);

// rendezvous/mpi.cpp, only where the build has MPI.
[[nodiscard]] Launch join_mpi(GroupOptions options);
void leave_mpi(Launch& launch, ExitCode code, bool agreed);

}  // namespace ink
