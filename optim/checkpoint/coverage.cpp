#include "optim/checkpoint/coverage.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace ink {
namespace {

// More than any layout cuts a tensor into; bounds the comparison of pairs.
constexpr size_t kMaxPieces = 4096;

// Each size fits its dimension, so the product does not overflow.
int64_t volume(const Piece& piece) {
  int64_t count = 1;
  for (const int64_t size : piece.size) count *= size;
  return count;
}

bool inside(const Piece& piece, const Shape& shape) {
  for (size_t d = 0; d < piece.begin.size(); ++d) {
    const int64_t size = shape[static_cast<int>(d)];
    if (piece.size[d] > size || piece.begin[d] > size - piece.size[d]) return false;
  }
  return true;
}

bool overlap(const Piece& a, const Piece& b) {
  for (size_t d = 0; d < a.begin.size(); ++d) {
    if (a.begin[d] >= b.begin[d] + b.size[d] || b.begin[d] >= a.begin[d] + a.size[d]) return false;
  }
  return volume(a) > 0 && volume(b) > 0;
}

std::string box(const Piece& piece) {
  return fmt::format("[{}] at [{}]", fmt::join(piece.size, ", "), fmt::join(piece.begin, ", "));
}

}  // namespace

void check_global_coverage(std::span<const ManifestTensor* const> saved, const std::string& place) {
  std::vector<const Piece*> pieces;
  for (const ManifestTensor* tensor : saved) {
    for (const Piece& piece : tensor->pieces) pieces.push_back(&piece);
  }
  const std::string& name = saved.front()->name;
  const Shape& shape = saved.front()->shape;
  const auto refuse = [&](const std::string& what) {
    throw Error(ExitCode::kBadInput, place, fmt::format("{}: {}", name, what));
  };
  if (pieces.size() > kMaxPieces)
    refuse(fmt::format("expected at most {} pieces, got {}", kMaxPieces, pieces.size()));
  int64_t covered = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (!inside(*pieces[i], shape))
      refuse(fmt::format("expected pieces inside {}, got {}", shape.str(), box(*pieces[i])));
    for (size_t j = 0; j < i; ++j) {
      if (overlap(*pieces[i], *pieces[j]))
        refuse(fmt::format("expected every element of {} once, got {} over {}", shape.str(),
                           box(*pieces[i]), box(*pieces[j])));
    }
    covered += volume(*pieces[i]);
  }
  if (covered != shape.numel())
    refuse(fmt::format("expected {} elements in the pieces of {}, got {}", shape.numel(),
                       shape.str(), covered));
}

void check_file_coverage(const ManifestTensor& saved, const SafetensorsEntry& entry,
                         const std::string& place) {
  std::vector<const Piece*> in_order;
  for (const Piece& piece : saved.pieces) in_order.push_back(&piece);
  std::ranges::sort(in_order, {}, &Piece::local_offset);
  int64_t end = 0;
  bool whole = entry.dtype->native == saved.dtype;
  for (const Piece* piece : in_order) {
    whole = whole && piece->local_offset == end;
    end += volume(*piece);
  }
  if (whole && end == entry.numel()) return;
  throw Error(
      ExitCode::kBadInput, place,
      fmt::format("{}: expected pieces that fill the {} {} elements of {}, got {} {}", saved.name,
                  entry.numel(), entry.dtype->name, saved.file, end, name_of(saved.dtype)));
}

}  // namespace ink
