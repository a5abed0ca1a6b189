// Cuts every per-token field of a batch for the ranks that share its sequence; the identity where
// one rank holds it all.
//
// The chunks come from sequence_chunks(). cu_seqlens stays global: attention over a split sequence
// needs all borders.
#pragma once

#include "engine/nn/batch.h"
#include "parallel/mesh/mesh.h"

namespace ink {

// Error(kConfig) when T is not a multiple of 2 * head * context.
[[nodiscard]] Batch slice_batch(const Batch& batch, const MeshShape& shape,
                                const MeshCoordinates& at);

}  // namespace ink
