// From logits to the next token: penalties, cuts, one draw.
//
// Order of the rules: repetition penalty (logit / p if positive, else * p, for every id seen),
// temperature, top-k, top-p, min-p. temperature 0 is greedy: the largest logit, the lowest id on a
// tie. The draw is Philox of (seed, number of the token), so a generation is a function of its
// inputs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ink {

struct SamplingOptions {
  int64_t max_new_tokens = 2048;
  double temperature = 0.1;
  int64_t top_k = 40;   // 0 = all
  double top_p = 0.75;  // 1 = all
  double min_p = 0;     // of the largest probability; 0 = all
  double repetition_penalty = 1.0;
  uint64_t seed = 0;
  std::vector<int64_t> stop_ids;
};

// Error(kConfig) names the option that is out of range.
void check_sampling(const SamplingOptions& options);

struct SampledToken {
  int32_t id = 0;
  double logprob = 0;  // natural log of the distribution before any rule
};

// index: number of the new token. seen: ids of the prompt and of what was generated.
[[nodiscard]] SampledToken sample_token(std::span<const float> logits,
                                        const SamplingOptions& options, int64_t index,
                                        std::span<const int32_t> seen);

}  // namespace ink
