#include <utility>

#include "data/loader/pack_source.h"
#include "engine/core/error.h"

namespace ink {
namespace {

class StorePacks final : public PackSource {
 public:
  StorePacks(std::shared_ptr<const TokenStore> store, Split split)
      : store_(std::move(store)), split_(split) {}

  std::string name() const override { return store_->path(); }
  std::string hash() const override { return store_->header().content_hash; }
  int64_t packs() const override { return count(store_->sizes(split_).packs); }
  int64_t tokens() const override { return count(store_->sizes(split_).tokens); }
  int64_t documents() const override { return count(store_->sizes(split_).documents); }
  int64_t trained_tokens() const override { return count(store_->sizes(split_).trained); }
  int64_t max_length() const override { return store_->header().max_length; }
  std::vector<std::string> source_names() const override { return store_->header().source_paths(); }
  int64_t most_segments() const override { return count(store_->sizes(split_).most_segments); }
  PackRow row(int64_t pack) const override {
    return store_->pack_row(split_, static_cast<uint64_t>(pack));
  }
  TokenRange read(int64_t pack) const override {
    return store_->read_pack(split_, static_cast<uint64_t>(pack));
  }

 private:
  static int64_t count(uint64_t value) { return static_cast<int64_t>(value); }
  std::shared_ptr<const TokenStore> store_;
  Split split_;
};

}  // namespace

std::shared_ptr<const PackSource> store_source(std::shared_ptr<const TokenStore> store,
                                               Split split) {
  return std::make_shared<StorePacks>(std::move(store), split);
}

}  // namespace ink
