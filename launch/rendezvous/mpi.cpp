#include <mpi.h>

#include <cstdlib>

#include "launch/rendezvous/rendezvous.h"
#include "parallel/comm/mpi_group.h"

namespace ink {

Launch join_mpi(GroupOptions options) {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
  if (provided < MPI_THREAD_MULTIPLE) {
    throw Error(ExitCode::kPeer, "mpi",
                fmt::format("expected MPI_THREAD_MULTIPLE ({}), got level {}", MPI_THREAD_MULTIPLE,
                            provided));
  }
  Launch launch;
  MPI_Comm_rank(MPI_COMM_WORLD, &launch.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &launch.size);
  MPI_Comm host = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, launch.rank, MPI_INFO_NULL, &host);
  MPI_Comm_rank(host, &launch.local_rank);
  MPI_Comm_size(host, &launch.local_size);
  MPI_Comm_free(&host);
  launch.world = make_mpi_world(options);
  return launch;
}

void leave_mpi(Launch& launch, ExitCode code, bool agreed) {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (!initialized) return;
  // After an agreed end every rank finalizes and returns the same code. After a failure of one rank
  // that one leaves at once: the launcher ends the others, which may be waiting for it, and returns
  // this code.
  if (!agreed) std::_Exit(static_cast<int>(code));
  launch.world.reset();
  MPI_Finalize();
}

}  // namespace ink
