// Reads the tensors of a checkpoint into a model and an optimizer of any layout.
//
// Every tensor that the present run has must be there with the same global shape; a missing one is
// an error, never a default; so are saved pieces that overlap or leave holes. Boxes of the saved
// pieces are copied where they overlap with boxes of the present ones.
#pragma once

#include <filesystem>
#include <span>

#include "optim/checkpoint/manifest.h"
#include "optim/checkpoint/snapshot.h"

namespace ink {

// Error 3: a tensor is missing, of another shape or dtype, or its pieces are not the whole of it.
void load_state(const std::filesystem::path& checkpoint, const Manifest& manifest,
                std::span<const StateTensor> tensors);

}  // namespace ink
