// Continues a sequence of ids with the key/value cache. One sequence at a time; the caller owns
// tokenizer and text.
//
// Under dynamic rope scaling the angles change with the total length, which makes cached keys
// wrong: past max_position_embeddings every step runs the whole sequence again instead of silently
// using them.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "models/common/decoder.h"
#include "models/generate/sampler.h"

namespace ink {

enum class StopReason : uint8_t { kEos, kLength, kCallback };

struct Generated {
  std::vector<int32_t> ids;      // new ones, a stop id included
  std::vector<double> logprobs;  // one per id, before any sampling rule
  StopReason reason = StopReason::kLength;
};

// Called with every new token; false stops.
using OnToken = std::function<bool(const SampledToken&)>;

// Error(kConfig) for an empty prompt; Error(kBadInput) for an id outside of the vocabulary.
[[nodiscard]] Generated generate(Runtime& runtime, const Decoder& model,
                                 std::span<const int32_t> prompt, const SamplingOptions& options,
                                 const OnToken& on_token = {});

}  // namespace ink
