// Checks of `train.compat` against the keys beside it. Called by validate().
#pragma once

#include "configs/schema/place.h"
#include "configs/schema/run_options.h"

namespace ink {

// Error 2 where compat.sampler meets a key that its order of packs has no place for.
void check_compat(const RunOptions& run, const Places& places);

}  // namespace ink
