#include <algorithm>
#include <utility>
#include <vector>

#include "data/loader/store_backed.h"
#include "engine/core/error.h"

namespace ink {
namespace {

constexpr int64_t kBlock = 65536;

class StoreSamples final : public StoreBacked {
 public:
  StoreSamples(std::shared_ptr<const TokenStore> store, Split split, int64_t max_length)
      : StoreBacked(std::move(store), split), max_length_(max_length) {
    CHECK(max_length > 0, "max_length is {}", max_length);
    for (int64_t first = 0; first < documents(); first += kBlock)
      for (const uint64_t length : document_lengths(first, std::min(kBlock, documents() - first)))
        add(static_cast<int64_t>(length));
  }

  std::string hash() const override {
    return fmt::format("{}, samples of {}", store().header().content_hash, max_length_);
  }
  int64_t packs() const override { return samples_; }
  int64_t max_length() const override { return max_length_; }
  PackRow row(int64_t pack) const override {
    const Place place = find(pack);
    return store().part_row(split(), place.document, place.offset,
                            static_cast<uint64_t>(max_length_));
  }
  TokenRange read(int64_t pack) const override {
    const Place place = find(pack);
    return store().read_part(split(), place.document, place.offset,
                             static_cast<uint64_t>(max_length_));
  }

 private:
  // A document of several samples.
  struct LongDocument {
    int64_t document = 0, first_sample = 0, parts = 0;
  };
  struct Place {
    uint64_t document = 0, offset = 0;
  };

  void add(int64_t length) {
    const int64_t parts = (length - 1) / max_length_ + 1;
    if (parts > 1) long_.push_back({added_, samples_, parts});
    samples_ += parts;
    ++added_;
  }

  // From one long document to the next, samples and documents advance together.
  [[nodiscard]] Place find(int64_t sample) const {
    CHECK(sample >= 0 && sample < samples_, "sample {} of {}", sample, samples_);
    const auto next = std::upper_bound(
        long_.begin(), long_.end(), sample,
        [](int64_t at, const LongDocument& entry) { return at < entry.first_sample; });
    if (next == long_.begin()) return {static_cast<uint64_t>(sample), 0};
    const LongDocument& before = *(next - 1);
    const int64_t place = sample - before.first_sample;
    if (place < before.parts)
      return {static_cast<uint64_t>(before.document), static_cast<uint64_t>(place * max_length_)};
    return {static_cast<uint64_t>(before.document + 1 + place - before.parts), 0};
  }

  int64_t max_length_;
  int64_t samples_ = 0, added_ = 0;  // documents
  std::vector<LongDocument> long_;
};

}  // namespace

std::shared_ptr<const PackSource> sample_source(std::shared_ptr<const TokenStore> store,
                                                Split split, int64_t max_length) {
  return std::make_shared<StoreSamples>(std::move(store), split, max_length);
}

}  // namespace ink
