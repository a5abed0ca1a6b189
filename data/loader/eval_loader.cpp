#include "data/loader/eval_loader.h"

#include <algorithm>
#include <utility>

#include "engine/core/error.h"

namespace ink {

EvalLoader::EvalLoader(std::shared_ptr<const PackSource> source, EvalLoaderOptions options)
    : source_(std::move(source)), options_(options) {
  CHECK(options_.dp_size > 0 && options_.dp_rank >= 0 && options_.dp_rank < options_.dp_size &&
            options_.micro_batch_size > 0,
        "rank {} of {}, micro_batch_size {}", options_.dp_rank, options_.dp_size,
        options_.micro_batch_size);
  packs_ = source_->packs();
  if (options_.max_packs > 0) packs_ = std::min(packs_, options_.max_packs);
  if (packs_ == source_->packs()) {
    trained_ = source_->trained_tokens();
    return;
  }
  for (int64_t pack = 0; pack < packs_; ++pack)
    trained_ += static_cast<int64_t>(source_->row(pack).trained);
}

int64_t EvalLoader::size() const {
  const int64_t unit = options_.dp_size * options_.micro_batch_size;
  return (packs_ + unit - 1) / unit;
}

HostBatch EvalLoader::read(int64_t index) const {
  CHECK(index >= 0 && index < size(), "micro-batch {} of {}", index, size());
  const auto micro = static_cast<size_t>(options_.micro_batch_size);
  std::vector<Pack> packs(micro);
  std::vector<BatchSlot> slots(micro);
  const int64_t first = (index * options_.dp_size + options_.dp_rank) * options_.micro_batch_size;
  for (size_t i = 0; i < micro; ++i) {
    slots[i].slot = first + static_cast<int64_t>(i);
    if (slots[i].slot >= packs_) continue;
    packs[i] = make_pack(source_->read(slots[i].slot), options_.reset_positions);
    slots[i].pack = &packs[i];
    slots[i].sample_id = slots[i].slot;
  }
  return make_host_batch(slots, source_->max_length(), options_.padding);
}

}  // namespace ink
