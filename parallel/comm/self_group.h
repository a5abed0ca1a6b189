// A group of one rank: every call is the identity (a copy where in and out differ).
#pragma once

#include <memory>

#include "parallel/comm/process_group.h"

namespace ink {

[[nodiscard]] std::unique_ptr<ProcessGroup> make_self_group();

}  // namespace ink
