// The pack table of a stream of documents, made while the stream goes by in constant memory.
//
// Called by the store writer, once per document in the order in which the documents will lie. Every
// row but the last has max_length tokens; the last one is short and kept.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "data/packing/pack.h"

namespace ink {

class PackCutter {
 public:
  // `emit` receives the rows in order.
  PackCutter(int64_t max_length, std::function<void(const PackRow&)> emit);

  // A document of untrained.size() tokens; a flag of 1 means that the token is never a target.
  void add(std::span<const uint8_t> untrained);
  // Emits the short last row, if any.
  void finish();

  [[nodiscard]] uint64_t documents() const { return documents_; }
  [[nodiscard]] uint64_t tokens() const { return tokens_; }

 private:
  void close();

  uint64_t max_length_;
  std::function<void(const PackRow&)> emit_;
  PackRow open_;
  uint64_t documents_ = 0, tokens_ = 0;
};

}  // namespace ink
