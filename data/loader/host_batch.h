// One micro-batch on the host: a packed stream of T tokens, as the trainer copies it to tensors.
//
// With full slots T is always micro_batch_size * max_length: what a short or an empty pack leaves
// free is padding, token 0, label -100, its own document. Without padding T is what the packs hold,
// at least one token: packs end to end are the same mathematics on less of it. Labels are already
// shifted: labels[t] is the target of tokens[t].
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/packing/pack.h"

namespace ink {

struct HostBatch {
  std::vector<int32_t> tokens, labels;
  std::vector<float> loss_weight;  // empty: 1 everywhere
  std::vector<int32_t> positions;
  std::vector<int64_t>
      token_ids;  // place of the token in the global batch: the same on every layout
  std::vector<int32_t> documents;   // index of the segment that the token belongs to
  std::vector<int32_t> cu_seqlens;  // segment borders: starts at 0, ends at T
  std::vector<int64_t> sample_ids;  // per pack; -1 for an empty pack
  std::vector<int32_t> source_ids;  // per segment, BatchSlot::first_source added; -1 for padding
  int64_t trained = 0;              // labels that are not -100
  int64_t real_tokens = 0;          // tokens that are not padding
  int32_t max_seqlen = 0;

  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

// A pack and its place in the global batch. pack == nullptr is an empty pack.
struct BatchSlot {
  const Pack* pack = nullptr;
  int64_t slot = 0;
  int64_t sample_id = -1;
  int32_t first_source = 0;  // number of the pack's source 0 among those of all pack sources
};

// kFull: what devices need that record a micro-batch or measure kernels for its shape.
enum class SlotPadding { kFull, kNone };

// A token's id, its place in the global batch, does not depend on the padding.
[[nodiscard]] HostBatch make_host_batch(std::span<const BatchSlot> slots, int64_t max_length,
                                        SlotPadding padding = SlotPadding::kFull);

}  // namespace ink
