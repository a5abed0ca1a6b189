#include "data/tokenizer/word_cache.h"

#include <cstring>
#include <functional>

namespace ink {
namespace {
constexpr size_t kSlots = size_t{1} << 17;  // 1 MiB of pointers, about 10 MiB of entries when full
constexpr size_t kProbes = 4;
}  // namespace

struct WordCache::Entry {
  size_t hash;
  std::vector<int32_t> ids;
  uint8_t size;
  char word[kMaxWordBytes];
};

WordCache::WordCache() : slots_(std::make_unique<std::atomic<Entry*>[]>(kSlots)) {}

WordCache::~WordCache() {
  for (size_t i = 0; i < kSlots; ++i) delete slots_[i].load(std::memory_order_relaxed);
}

bool WordCache::append(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.size() > kMaxWordBytes) return false;
  const size_t hash = std::hash<std::string_view>{}(word);
  for (size_t probe = 0; probe < kProbes; ++probe) {
    const Entry* entry = slots_[(hash + probe) % kSlots].load(std::memory_order_acquire);
    if (entry == nullptr) return false;
    if (entry->hash == hash && word == std::string_view(entry->word, entry->size)) {
      ids.insert(ids.end(), entry->ids.begin(), entry->ids.end());
      return true;
    }
  }
  return false;
}

void WordCache::remember(std::string_view word, std::span<const int32_t> ids) {
  if (word.size() > kMaxWordBytes) return;
  const size_t hash = std::hash<std::string_view>{}(word);
  auto entry = std::make_unique<Entry>();
  entry->hash = hash;
  entry->ids.assign(ids.begin(), ids.end());
  entry->size = static_cast<uint8_t>(word.size());
  std::memcpy(entry->word, word.data(), word.size());
  for (size_t probe = 0; probe < kProbes; ++probe) {
    Entry* empty = nullptr;
    if (slots_[(hash + probe) % kSlots].compare_exchange_strong(empty, entry.get(),
                                                                std::memory_order_acq_rel)) {
      static_cast<void>(entry.release());
      return;
    }
  }
}

}  // namespace ink
