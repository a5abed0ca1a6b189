// The data of the correctness fixture: global batches of equal rows of packed documents of unequal
// length, trained counts that differ more than fivefold, one row fully masked. Those in the tree
// are ten of 16 rows of 64 tokens.
//
// Rows are handed out as micro-batches of any grouping; token ids count within the global batch, as
// the loader numbers them, so that randomness does not depend on the grouping.
#pragma once

#include <span>
#include <vector>

#include "data/loader/host_batch.h"

namespace ink {

class Fixture {
 public:
  static constexpr int64_t kMaskedRow = 5;

  Fixture();
  [[nodiscard]] int64_t steps() const { return steps_; }    // global batches
  [[nodiscard]] int64_t rows() const { return rows_; }      // of a global batch
  [[nodiscard]] int64_t length() const { return length_; }  // tokens of a row
  // These rows of the global batch of a step (0-based), one after another in one packed stream.
  [[nodiscard]] HostBatch pack(int64_t step, std::span<const int64_t> rows) const;
  [[nodiscard]] HostBatch pack(int64_t step, std::initializer_list<int64_t> rows) const {
    return pack(step, std::span(rows.begin(), rows.size()));
  }
  [[nodiscard]] HostBatch all(int64_t step) const { return pack(step, in_order()); }
  [[nodiscard]] int64_t trained(int64_t step) const;  // of the whole global batch
  [[nodiscard]] std::vector<int64_t> in_order() const;
  // The stream with `count` tokens of padding behind it, a document of its own.
  [[nodiscard]] HostBatch with_padding(const HostBatch& batch, int32_t count) const;

 private:
  int64_t steps_ = 0, rows_ = 0, length_ = 0;
  std::vector<int32_t> tokens_, labels_, document_, position_;  // [step, row, token]
};

// Document d of a packed stream as a batch of its own.
[[nodiscard]] HostBatch document_alone(const HostBatch& batch, size_t document);
[[nodiscard]] int64_t count_trained(std::span<const int32_t> labels);
void mask_all_labels(HostBatch& batch);

}  // namespace ink
