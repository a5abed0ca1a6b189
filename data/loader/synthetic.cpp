#include "data/loader/synthetic.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/core/philox.h"

namespace ink {
namespace {

constexpr uint64_t kStrides = 8;
constexpr uint32_t kNoiseOf16 = 1;

// Documents of equal length, laid end to end or each alone: every number of the pack table has a
// closed form.
class SyntheticPacks final : public PackSource {
 public:
  explicit SyntheticPacks(const SyntheticSetup& setup)
      : setup_(setup), key_(philox_key(setup.seed, "synthetic")) {
    CHECK(setup.size.documents > 0 && setup.size.length > 0 && setup.vocab_size > 0 &&
              setup.max_length > 0,
          "synthetic data: {} documents of {} tokens, vocab_size {}, max_length {}",
          setup.size.documents, setup.size.length, setup.vocab_size, setup.max_length);
  }

  std::string name() const override { return "synthetic"; }
  std::string hash() const override {
    return fmt::format("synthetic-1 {} {} {} {} {}{}", setup_.seed, setup_.size.documents,
                       setup_.size.length, setup_.vocab_size, setup_.max_length,
                       setup_.packing ? "" : " unpacked");
  }
  int64_t packs() const override {
    return setup_.packing ? parts_of(tokens()) : documents() * parts_of(setup_.size.length);
  }
  int64_t tokens() const override { return documents() * setup_.size.length; }
  int64_t documents() const override { return setup_.size.documents; }
  int64_t trained_tokens() const override { return tokens() - documents(); }
  int64_t max_length() const override { return setup_.max_length; }

  PackRow row(int64_t pack) const override {
    CHECK(pack >= 0 && pack < packs(), "pack {} of {}", pack, packs());
    const int64_t parts = setup_.packing ? packs() : parts_of(setup_.size.length);
    const int64_t whole = setup_.packing ? tokens() : setup_.size.length;  // of which parts are cut
    const int64_t offset = pack % parts * max_length(), begin = pack / parts * whole + offset;
    const int64_t length = std::min(max_length(), whole - offset);
    return {
        .first_document = static_cast<uint64_t>(begin / setup_.size.length),
        .document_offset = static_cast<uint64_t>(begin % setup_.size.length),
        .token_offset = static_cast<uint64_t>(begin),
        .length = static_cast<uint64_t>(length),
        .trained = static_cast<uint64_t>(trained_before(begin + length) - trained_before(begin))};
  }

  TokenRange read(int64_t pack) const override {
    const PackRow place = row(pack);
    const auto begin = static_cast<int64_t>(place.token_offset);
    return tokens_of(begin, begin + static_cast<int64_t>(place.length));
  }

  std::vector<uint64_t> document_lengths(int64_t, int64_t count) const override {
    return std::vector<uint64_t>(static_cast<size_t>(count),
                                 static_cast<uint64_t>(setup_.size.length));
  }
  TokenRange read_document(int64_t document) const override {
    return tokens_of(document * setup_.size.length, (document + 1) * setup_.size.length);
  }

 private:
  [[nodiscard]] TokenRange tokens_of(int64_t begin, int64_t end) const {
    TokenRange range;
    range.continues = begin % setup_.size.length != 0;
    range.untrained.assign(static_cast<size_t>(end - begin), 0);
    for (int64_t t = begin; t < end; ++t) {
      if (t == begin || t % setup_.size.length == 0) {
        range.starts.push_back(static_cast<int32_t>(t - begin));
        range.sources.push_back(0);
        range.origins.push_back(t / setup_.size.length + 1);
      }
      range.ids.push_back(token(t));
    }
    if (end < tokens() && end % setup_.size.length != 0) range.next_label = token(end);
    return range;
  }

  [[nodiscard]] int64_t parts_of(int64_t length) const {
    return (length + max_length() - 1) / max_length();
  }

  // Labels of the tokens [0, t): every token in 1..t that does not start a document.
  [[nodiscard]] int64_t trained_before(int64_t t) const {
    const int64_t last = std::min(t, tokens() - 1);
    return last - last / setup_.size.length;
  }

  [[nodiscard]] int32_t token(int64_t t) const {
    const auto document = static_cast<uint64_t>(t / setup_.size.length);
    const auto place = static_cast<uint64_t>(t % setup_.size.length);
    const auto vocab = static_cast<uint64_t>(setup_.vocab_size);
    const PhiloxBlock noise = philox(key_, place, 2 * document + 1);
    if (noise.v[0] % 16 < kNoiseOf16) return static_cast<int32_t>(noise.v[1] % vocab);
    const PhiloxBlock walk = philox(key_, 0, 2 * document);
    const uint64_t start = walk.v[0] % vocab, stride = 1 + walk.v[1] % kStrides;
    return static_cast<int32_t>((start + stride * place) % vocab);
  }

  SyntheticSetup setup_;
  PhiloxKey key_;
};

}  // namespace

std::shared_ptr<const PackSource> synthetic_source(const SyntheticSetup& setup) {
  return std::make_shared<SyntheticPacks>(setup);
}

}  // namespace ink
