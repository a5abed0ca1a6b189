// Whether the saved pieces of a tensor are the tensor: every element once, no holes, no overlaps,
// in the global tensor and in every file. A doubled piece and a missing one of equal size would
// otherwise pass for a whole.
#pragma once

#include <span>
#include <string>

#include "engine/io/safetensors_table.h"
#include "optim/checkpoint/manifest.h"

namespace ink {

// All entries of the manifest with one name, which have one shape. Error 3 with the name.
void check_global_coverage(std::span<const ManifestTensor* const> saved, const std::string& place);
// The pieces of one file lie inside the global tensor and fill what the file holds of it.
void check_file_coverage(const ManifestTensor& saved, const SafetensorsEntry& entry,
                         const std::string& place);

}  // namespace ink
