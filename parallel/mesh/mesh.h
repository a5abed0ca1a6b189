// The process mesh: global rank <-> coordinates on named axes. Pure arithmetic, no communication.
//
// Order of the compute view, innermost first: tensor, head (Ulysses), context (ring), data,
// pipeline; the first changes fastest with the rank. data is derived: world / (tensor * head *
// context * pipeline).
#pragma once

#include <cstdint>
#include <vector>

namespace ink {

struct MeshShape {
  int tensor = 1, head = 1, context = 1, data = 1, pipeline = 1;
  [[nodiscard]] int world() const { return tensor * head * context * data * pipeline; }
  friend bool operator==(const MeshShape&, const MeshShape&) = default;
};

struct MeshCoordinates {
  int tensor = 0, head = 0, context = 0, data = 0, pipeline = 0;
  friend bool operator==(const MeshCoordinates&, const MeshCoordinates&) = default;
};

enum class Direction : uint8_t { kTensor, kHead, kContext, kData, kPipeline };

// The shape for this many ranks; Error(kConfig) with the equation when they do not fit.
[[nodiscard]] MeshShape mesh_for_world(int world, int tensor, int head, int context, int pipeline);

[[nodiscard]] MeshCoordinates coordinates_of(const MeshShape& shape, int rank);
[[nodiscard]] int rank_of(const MeshShape& shape, const MeshCoordinates& at);
// The ranks that share every coordinate of `rank` but one, in the order of that coordinate.
[[nodiscard]] std::vector<int> group_of(const MeshShape& shape, int rank, Direction direction);

// Which of the 2 * head * context equal chunks of a sequence a rank holds, in local order. head = 1
// or context = 1 and the two-dimensional form: LoongTrain (arXiv 2406.18485), zigzag over the ring.
// head must be 1 or even when context > 1.
[[nodiscard]] std::vector<int> sequence_chunks(const MeshShape& shape, const MeshCoordinates& at);

}  // namespace ink
