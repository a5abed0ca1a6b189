#include "data/loader/store_backed.h"

namespace ink {
namespace {

class StorePacks final : public StoreBacked {
 public:
  using StoreBacked::StoreBacked;

  std::string hash() const override { return store().header().content_hash; }
  int64_t packs() const override { return static_cast<int64_t>(sizes().packs); }
  int64_t max_length() const override { return store().header().max_length; }
  PackRow row(int64_t pack) const override {
    return store().pack_row(split(), static_cast<uint64_t>(pack));
  }
  TokenRange read(int64_t pack) const override {
    return store().read_pack(split(), static_cast<uint64_t>(pack));
  }
};

}  // namespace

std::shared_ptr<const PackSource> store_source(std::shared_ptr<const TokenStore> store,
                                               Split split) {
  return std::make_shared<StorePacks>(std::move(store), split);
}

}  // namespace ink
