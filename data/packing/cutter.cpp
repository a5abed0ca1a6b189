#include "data/packing/cutter.h"

#include <utility>

#include "engine/core/error.h"

namespace ink {

PackCutter::PackCutter(int64_t max_length, std::function<void(const PackRow&)> emit)
    : max_length_(static_cast<uint64_t>(max_length)), emit_(std::move(emit)) {
  CHECK(max_length > 0, "max_length is {}", max_length);
}

void PackCutter::close() {
  emit_(open_);
  open_ = {.first_document = documents_, .token_offset = open_.token_offset + open_.length};
}

void PackCutter::add(std::span<const uint8_t> untrained) {
  CHECK(!untrained.empty(), "document {} has no token", documents_);
  for (size_t i = 0; i < untrained.size(); ++i) {
    // A token is a target in the pack that holds the token before it; the first of a document never
    // is.
    if (i > 0 && !untrained[i]) ++open_.trained;
    if (open_.length == max_length_) {
      close();
      open_.document_offset = i;
    }
    if (open_.length == 0) open_.first_document = documents_;
    ++open_.length;
  }
  tokens_ += untrained.size();
  ++documents_;
}

void PackCutter::finish() {
  if (open_.length > 0) close();
}

}  // namespace ink
