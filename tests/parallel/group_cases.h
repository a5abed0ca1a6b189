// What every transport must do, as cases that each rank of a group runs: threads of one process and
// processes under mpirun run the same list.
//
// Inputs depend on the rank, so that a collective that does nothing fails.
#pragma once

#include <span>

#include "parallel/comm/process_group.h"

namespace ink {

struct GroupCase {
  const char* name;
  void (*run)(Runtime& runtime, ProcessGroup& group);
};

[[nodiscard]] std::span<const GroupCase> group_cases();

}  // namespace ink
