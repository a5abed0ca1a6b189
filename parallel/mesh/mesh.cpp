#include "parallel/mesh/mesh.h"

#include <array>

#include "engine/core/error.h"

namespace ink {
namespace {

std::array<int, 5> sizes(const MeshShape& s) {
  return {s.tensor, s.head, s.context, s.data, s.pipeline};
}

std::array<int, 5> values(const MeshCoordinates& c) {
  return {c.tensor, c.head, c.context, c.data, c.pipeline};
}

}  // namespace

MeshShape mesh_for_world(int world, int tensor, int head, int context, int pipeline) {
  const int fixed = tensor * head * context * pipeline;
  if (fixed <= 0 || world % fixed != 0) {
    throw Error(
        ExitCode::kConfig, "parallel",
        fmt::format(
            "{} ranks are not a multiple of tensor {} * sequence {} * ring {} * pipeline {} = {}",
            world, tensor, head, context, pipeline, fixed));
  }
  return {tensor, head, context, world / fixed, pipeline};
}

MeshCoordinates coordinates_of(const MeshShape& shape, int rank) {
  CHECK(rank >= 0 && rank < shape.world(), "rank {} of {}", rank, shape.world());
  std::array<int, 5> at{};
  const auto size = sizes(shape);
  for (size_t i = 0; i < at.size(); ++i) {
    at[i] = rank % size[i];
    rank /= size[i];
  }
  return {at[0], at[1], at[2], at[3], at[4]};
}

int rank_of(const MeshShape& shape, const MeshCoordinates& at) {
  const auto size = sizes(shape);
  const auto value = values(at);
  int rank = 0;
  for (size_t i = size.size(); i-- > 0;) {
    CHECK(value[i] >= 0 && value[i] < size[i], "coordinate {} of axis {} is not below {}", value[i],
          i, size[i]);
    rank = rank * size[i] + value[i];
  }
  return rank;
}

std::vector<int> group_of(const MeshShape& shape, int rank, Direction direction) {
  const auto axis = static_cast<size_t>(direction);
  std::vector<int> ranks;
  auto at = values(coordinates_of(shape, rank));
  for (int i = 0; i < sizes(shape)[axis]; ++i) {
    at[axis] = i;
    ranks.push_back(rank_of(shape, {at[0], at[1], at[2], at[3], at[4]}));
  }
  return ranks;
}

std::vector<int> sequence_chunks(const MeshShape& shape, const MeshCoordinates& at) {
  const int h = shape.head, c = shape.context, sp = h * c;
  if (c == 1) return {2 * at.head, 2 * at.head + 1};
  if (h == 1) return {at.context, 2 * c - 1 - at.context};
  if (h % 2 != 0) {
    throw Error(ExitCode::kConfig, "parallel.sequence",
                fmt::format("expected 1 or an even number beside parallel.ring {}, got {}", c, h));
  }
  const int first = at.head < h / 2 ? 2 * at.head + at.context * h
                                    : (2 * sp - 2) - 2 * (h - at.head - 1) - at.context * h;
  return {first, first + 1};
}

}  // namespace ink
