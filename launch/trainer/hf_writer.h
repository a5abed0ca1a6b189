// The Hugging Face form of a checkpoint, as the function that optim/checkpoint is handed.
#pragma once

#include "launch/trainer/session.h"
#include "optim/checkpoint/save.h"

namespace ink {

// Writes weights (masters where there are, in the compute type), config and tokenizer. Works on the
// snapshot alone, so the run may go on meanwhile.
[[nodiscard]] WriteHf hf_writer(Session& session);

}  // namespace ink
