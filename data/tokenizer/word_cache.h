// Ids of words that were encoded before. Text repeats its words, so most of them cost one look-up
// instead of a run of merges. The table is bounded, entries are never replaced or freed before the
// cache itself, and reading takes no lock: an entry is published once with a compare-and-swap.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace ink {

class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 48;  // longer words seldom repeat

  WordCache();
  ~WordCache();
  WordCache(const WordCache&) = delete;
  WordCache& operator=(const WordCache&) = delete;

  // Appends the ids of word and returns true if it is known. Any thread.
  [[nodiscard]] bool append(std::string_view word, std::vector<int32_t>& ids) const;
  // Remembers a word; does nothing if it is long or its slots are taken. Any thread.
  void remember(std::string_view word, std::span<const int32_t> ids);

 private:
  struct Entry;
  std::unique_ptr<std::atomic<Entry*>[]> slots_;
};

}  // namespace ink
