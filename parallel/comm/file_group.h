// Ranks that meet in a folder: host tensors as files that every rank writes once and all read.
//
// For the few small messages that ranks without MPI exchange before and beside training: who they
// are, the id of their cards' transport, agreement at step boundaries. Every call gathers what all
// ranks bring, so it costs a few milliseconds and size() times the bytes; large tensors belong on
// another transport. The folder is the job's secret: it must belong to this user and be closed to
// others, and it serves one job. A call does its work before it returns. Used by one thread.
#pragma once

#include <filesystem>
#include <memory>

#include "parallel/comm/process_group.h"

namespace ink {

// folder: one that all ranks see. Error(kConfig) when it is not private, or was used before.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_file_group(const std::filesystem::path& folder,
                                                            int rank, int size,
                                                            GroupOptions options = {});

}  // namespace ink
