#include "data/packing/pack.h"

#include <utility>

#include "engine/core/error.h"

namespace ink {

Pack make_pack(TokenRange range, ResetPositions reset) {
  const size_t length = range.ids.size();
  CHECK(range.untrained.size() == length, "{} flags for {} ids", range.untrained.size(), length);
  CHECK(length == 0 || (!range.starts.empty() && range.starts[0] == 0), "no segment at token 0");

  Pack pack;
  pack.labels.assign(length, kIgnoreLabel);
  pack.positions.resize(length);
  size_t segment = 0;
  int32_t start = 0;
  for (size_t i = 0; i < length; ++i) {
    const bool first =
        segment < range.starts.size() && range.starts[segment] == static_cast<int32_t>(i);
    if (first) {
      start = range.starts[segment++];
    } else if (!range.untrained[i]) {
      pack.labels[i - 1] = range.ids[i];
      ++pack.trained;
    }
    const auto place = static_cast<int32_t>(i);
    pack.positions[i] = reset == ResetPositions::kDocument ? place - start : place;
  }
  CHECK(segment == range.starts.size(), "segment starts are not increasing inside of {} tokens",
        length);
  if (length > 0 && range.next_label != kIgnoreLabel) {
    pack.labels.back() = range.next_label;
    ++pack.trained;
  }
  pack.tokens = std::move(range.ids);
  pack.starts = std::move(range.starts);
  pack.sources = std::move(range.sources);
  pack.origins = std::move(range.origins);
  pack.continues = range.continues;
  return pack;
}

}  // namespace ink
