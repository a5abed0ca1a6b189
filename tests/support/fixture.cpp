#include "tests/support/fixture.h"

#include <algorithm>
#include <numeric>

#include "tests/support/golden.h"

namespace ink {
namespace {

std::vector<int32_t> read_column(const SafetensorsReader& file, std::string_view name) {
  const Values values = read_values(file, name);
  return {values.begin(), values.end()};
}

void append(std::vector<int32_t>& to, const std::vector<int32_t>& from, int64_t first,
            int64_t count) {
  to.insert(to.end(), from.begin() + first, from.begin() + first + count);
}

void close_document(HostBatch& batch, int32_t end) {
  const int32_t begin = batch.cu_seqlens.back();
  batch.documents.insert(batch.documents.end(), static_cast<size_t>(end - begin),
                         static_cast<int32_t>(batch.cu_seqlens.size()) - 1);
  batch.cu_seqlens.push_back(end);
  batch.source_ids.push_back(0);
  batch.max_seqlen = std::max(batch.max_seqlen, end - begin);
}

}  // namespace

Fixture::Fixture() {
  const SafetensorsReader file = SafetensorsReader::open(golden_folder("batches.safetensors"));
  const SafetensorsEntry* tokens = file.table().find("tokens");
  CHECK(tokens != nullptr && tokens->shape.size() == 3, "{}: tokens is no [steps, rows, length]",
        file.place());
  steps_ = tokens->shape[0];
  rows_ = tokens->shape[1];
  length_ = tokens->shape[2];
  tokens_ = read_column(file, "tokens");
  labels_ = read_column(file, "labels");
  document_ = read_column(file, "document");
  position_ = read_column(file, "position");
}

std::vector<int64_t> Fixture::in_order() const {
  std::vector<int64_t> rows(static_cast<size_t>(rows_));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

HostBatch Fixture::pack(int64_t step, std::span<const int64_t> rows) const {
  HostBatch batch;
  batch.cu_seqlens = {0};
  for (const int64_t row : rows) {
    const int64_t first = (step * rows_ + row) * length_;
    const auto start = static_cast<int32_t>(batch.tokens.size());
    append(batch.tokens, tokens_, first, length_);
    append(batch.labels, labels_, first, length_);
    append(batch.positions, position_, first, length_);
    for (int64_t t = 0; t < length_; ++t) {
      batch.token_ids.push_back(row * length_ + t);
      const auto at = static_cast<size_t>(first + t);
      if (t + 1 == length_ || document_[at + 1] != document_[at])
        close_document(batch, start + static_cast<int32_t>(t) + 1);
    }
    batch.sample_ids.push_back(step * rows_ + row);
  }
  batch.trained = count_trained(batch.labels);
  batch.real_tokens = batch.size();
  return batch;
}

int64_t Fixture::trained(int64_t step) const {
  return count_trained(std::span(labels_).subspan(static_cast<size_t>(step * rows_ * length_),
                                                  static_cast<size_t>(rows_ * length_)));
}

HostBatch document_alone(const HostBatch& batch, size_t document) {
  const int32_t begin = batch.cu_seqlens[document], end = batch.cu_seqlens[document + 1];
  const auto cut = [&](const auto& column) {
    return std::decay_t<decltype(column)>(column.begin() + begin, column.begin() + end);
  };
  HostBatch alone{.tokens = cut(batch.tokens),
                  .labels = cut(batch.labels),
                  .positions = cut(batch.positions),
                  .token_ids = cut(batch.token_ids)};
  alone.cu_seqlens = {0};
  close_document(alone, end - begin);
  alone.sample_ids = {0};
  alone.trained = count_trained(alone.labels);
  alone.real_tokens = end - begin;
  return alone;
}

HostBatch Fixture::with_padding(const HostBatch& batch, int32_t count) const {
  HostBatch padded = batch;
  for (int32_t i = 0; i < count; ++i) {
    padded.tokens.push_back(0);
    padded.labels.push_back(-100);
    padded.positions.push_back(i);
    padded.token_ids.push_back(rows_ * length_ + i);
  }
  close_document(padded, static_cast<int32_t>(padded.size()));
  return padded;
}

int64_t count_trained(std::span<const int32_t> labels) {
  return std::count_if(labels.begin(), labels.end(), [](int32_t label) { return label >= 0; });
}

void mask_all_labels(HostBatch& batch) {
  std::fill(batch.labels.begin(), batch.labels.end(), -100);
  batch.trained = 0;
}

}  // namespace ink
