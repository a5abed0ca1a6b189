#include "models/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/core/error.h"
#include "engine/core/philox.h"

namespace ink {
namespace {

void require(bool good, const char* option, const char* range, double got) {
  if (!good) throw Error(ExitCode::kConfig, option, fmt::format("expected {}, got {}", range, got));
}

double log_sum_exp(std::span<const float> logits) {
  const double peak = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - peak);
  return peak + std::log(sum);
}

// The candidates that survive the rules, most probable first, with their probabilities (not
// normalised after a cut).
struct Candidates {
  std::vector<int32_t> ids;
  std::vector<double> probabilities;
};

Candidates apply_rules(std::span<const float> logits, const SamplingOptions& o) {
  Candidates c;
  c.ids.resize(logits.size());
  std::iota(c.ids.begin(), c.ids.end(), 0);
  const size_t kept =
      o.top_k > 0 ? std::min(c.ids.size(), static_cast<size_t>(o.top_k)) : c.ids.size();
  const auto more_likely = [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] != logits[static_cast<size_t>(b)]
               ? logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]
               : a < b;
  };
  std::partial_sort(c.ids.begin(), c.ids.begin() + static_cast<std::ptrdiff_t>(kept), c.ids.end(),
                    more_likely);
  c.ids.resize(kept);
  const double peak = logits[static_cast<size_t>(c.ids[0])];
  double sum = 0;
  for (const int32_t id : c.ids) {
    c.probabilities.push_back(
        std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) - peak) / o.temperature));
    sum += c.probabilities.back();
  }
  double cumulated = 0;
  size_t count = 0;
  for (const double p : c.probabilities) {
    if (count > 0 && (cumulated >= o.top_p * sum || p < o.min_p * c.probabilities[0])) break;
    cumulated += p;
    ++count;
  }
  c.ids.resize(count);
  c.probabilities.resize(count);
  return c;
}

}  // namespace

void check_sampling(const SamplingOptions& o) {
  constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();  // positions have 32 bits
  require(o.max_new_tokens >= 1 && o.max_new_tokens <= kMostTokens, "--max-new-tokens",
          "a number from 1 to 2147483647", static_cast<double>(o.max_new_tokens));
  require(std::isfinite(o.temperature) && o.temperature >= 0, "--temperature", "a number from 0",
          o.temperature);
  require(o.top_k >= 0, "--top-k", "a number from 0", static_cast<double>(o.top_k));
  require(o.top_p > 0 && o.top_p <= 1, "--top-p", "a number in (0, 1]", o.top_p);
  require(o.min_p >= 0 && o.min_p < 1, "--min-p", "a number in [0, 1)", o.min_p);
  require(std::isfinite(o.repetition_penalty) && o.repetition_penalty > 0, "--repetition-penalty",
          "a number above 0", o.repetition_penalty);
}

SampledToken sample_token(std::span<const float> raw, const SamplingOptions& o, int64_t index,
                          std::span<const int32_t> seen) {
  std::vector<float> logits(raw.begin(), raw.end());
  if (o.repetition_penalty != 1.0) {
    const auto p = static_cast<float>(o.repetition_penalty);
    for (const int32_t id : seen) {
      const float logit =
          raw[static_cast<size_t>(id)];  // the raw one: an id seen twice is punished once
      logits[static_cast<size_t>(id)] = logit > 0 ? logit / p : logit * p;
    }
  }
  SampledToken token;
  if (o.temperature == 0) {
    token.id =
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  } else {
    const Candidates c = apply_rules(logits, o);
    const double total = std::accumulate(c.probabilities.begin(), c.probabilities.end(), 0.0);
    double left = static_cast<double>(philox_uniform(philox_key(o.seed, "generate"),
                                                     static_cast<uint64_t>(index))) *
                  total;
    size_t chosen = 0;
    while (chosen + 1 < c.ids.size() && left >= c.probabilities[chosen])
      left -= c.probabilities[chosen++];
    token.id = c.ids[chosen];
  }
  token.logprob = static_cast<double>(raw[static_cast<size_t>(token.id)]) - log_sum_exp(raw);
  return token;
}

}  // namespace ink
