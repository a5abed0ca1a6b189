#include "data/loader/host_batch.h"

#include <algorithm>

#include "engine/core/error.h"

namespace ink {
namespace {

int64_t length_of(const BatchSlot& slot) {
  return slot.pack ? static_cast<int64_t>(slot.pack->tokens.size()) : 0;
}

int64_t slot_tokens(int64_t length, int64_t max_length, SlotPadding padding) {
  return padding == SlotPadding::kFull ? max_length : length;
}

void reserve(HostBatch& batch, size_t tokens) {
  for (auto* column : {&batch.tokens, &batch.labels, &batch.positions, &batch.documents})
    column->reserve(tokens);
  batch.token_ids.reserve(tokens);
}

void append_segment(HostBatch& batch, int32_t length, int32_t source) {
  const auto index = static_cast<int32_t>(batch.cu_seqlens.size()) - 1;
  batch.cu_seqlens.push_back(batch.cu_seqlens.back() + length);
  batch.documents.insert(batch.documents.end(), static_cast<size_t>(length), index);
  batch.source_ids.push_back(source);
  batch.max_seqlen = std::max(batch.max_seqlen, length);
}

void append_pack(HostBatch& batch, const Pack& pack, int32_t first_source) {
  batch.tokens.insert(batch.tokens.end(), pack.tokens.begin(), pack.tokens.end());
  batch.labels.insert(batch.labels.end(), pack.labels.begin(), pack.labels.end());
  batch.positions.insert(batch.positions.end(), pack.positions.begin(), pack.positions.end());
  const auto length = static_cast<int32_t>(pack.tokens.size());
  for (size_t s = 0; s < pack.starts.size(); ++s) {
    const int32_t end = s + 1 < pack.starts.size() ? pack.starts[s + 1] : length;
    append_segment(batch, end - pack.starts[s],
                   first_source + (pack.sources.empty() ? 0 : pack.sources[s]));
  }
  batch.trained += pack.trained;
  batch.real_tokens += length;
}

void append_padding(HostBatch& batch, int64_t length) {
  if (length == 0) return;
  const auto count = static_cast<size_t>(length);
  batch.tokens.insert(batch.tokens.end(), count, 0);
  batch.labels.insert(batch.labels.end(), count, kIgnoreLabel);
  for (int64_t i = 0; i < length; ++i) batch.positions.push_back(static_cast<int32_t>(i));
  append_segment(batch, static_cast<int32_t>(length), -1);
}

}  // namespace

HostBatch make_host_batch(std::span<const BatchSlot> slots, int64_t max_length,
                          SlotPadding padding) {
  HostBatch batch;
  batch.cu_seqlens = {0};
  int64_t total = 0;
  for (const BatchSlot& slot : slots) total += slot_tokens(length_of(slot), max_length, padding);
  // A rank without any sample takes part in the step like the others.
  const bool lone_padding = total == 0 && !slots.empty();
  reserve(batch, static_cast<size_t>(total + (lone_padding ? 1 : 0)));
  for (const BatchSlot& slot : slots) {
    const int64_t length = length_of(slot), tokens = slot_tokens(length, max_length, padding);
    CHECK(length <= max_length, "a pack of {} tokens in slots of {}", length, max_length);
    if (slot.pack) append_pack(batch, *slot.pack, slot.first_source);
    append_padding(batch, tokens - length);
    for (int64_t i = 0; i < tokens; ++i) batch.token_ids.push_back(slot.slot * max_length + i);
    batch.sample_ids.push_back(slot.sample_id);
  }
  if (lone_padding) {
    append_padding(batch, 1);
    batch.token_ids.push_back(slots.front().slot * max_length);
  }
  return batch;
}

}  // namespace ink
