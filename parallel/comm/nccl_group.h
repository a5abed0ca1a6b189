// The NCCL transport: tensors of NVIDIA cards, one card per rank.
//
// Calls run on a stream of their own, so that they overlap with kernels: a call begins when the
// kernels issued before it are done, and Work::wait() makes later kernels wait for it. The host is
// not held up; memory of a call stays referenced until then. Where the host does wait for the card
// (CudaBackend::synchronize and its like), the group looks on: a call that is under way for too
// long, an error of the library or a watch that throws ends the communicator and the wait with
// Error(kPeer), which names the call. Peers are not told: they notice it in the same way. A
// recorded graph holds no calls, but makes them in its interludes: NCCL does not end a
// communicator, not even by ncclCommAbort, before the graphs that hold its calls are gone, and
// ranks had to record and launch them alike ("Using NCCL with CUDA Graphs" of its guide). Messages
// and gathers move any dtype; split() takes colors from 0 on. Used by the thread of its rank.
#pragma once

#include <memory>
#include <string>

#include "parallel/comm/process_group.h"

namespace ink {

// runtime: of a card; must outlive the group. host: a group of the same ranks that carries host
// tensors; the ranks meet through it. Collective. Error(kConfig) when two ranks share a card.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_nccl_group(Runtime& runtime, ProcessGroup& host,
                                                            const GroupOptions& options = {});

}  // namespace ink
