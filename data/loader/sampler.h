// The order of packs: draw number c is a function of (seed, sources, c) alone, so any number of
// ranks and any accumulation sees one global order, and a resume needs a few integers.
//
// With several sources the next pack comes from the one with the largest deficit weight * (c + 1) -
// drawn; the weights are integers, so there is no rounding. Every source runs through epochs of its
// own: each pack once per epoch, in the order of a Feistel permutation of (seed, source, epoch), or
// as stored. Or all sources are shuffled together, as InternEvo does it (numpy_order.h).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "configs/schema/data_options.h"
#include "data/loader/numpy_order.h"

namespace ink {

struct SamplerSource {
  int64_t packs = 0;
  std::optional<double>
      weight;  // share of packs; all sources have one or none (= proportional to size)
};

struct Draw {
  int32_t source = 0;
  int64_t pack = 0;   // in the source
  int64_t epoch = 0;  // of the source
};

struct SamplerState {
  uint64_t seed = 0;
  int64_t step = 0;                 // batches drawn
  int64_t cursor = 0;               // packs drawn
  std::vector<int64_t> drawn;       // per source; sums to cursor
  std::optional<EpochPlace> numpy;  // with NumPy's order, where it stands

  bool operator==(const SamplerState&) const = default;
  [[nodiscard]] nlohmann::json to_json() const;
  // Code 3 with `place` for a missing, unknown or ill-typed field.
  [[nodiscard]] static SamplerState from_json(const nlohmann::json& json, const std::string& place);
};

class Sampler {
 public:
  // numpy_batch: packs of a global batch, for NumPy's order instead of `order`; sources without
  // weights.
  Sampler(std::vector<SamplerSource> sources, uint64_t seed, DataOrder order,
          std::optional<int64_t> numpy_batch = std::nullopt);

  [[nodiscard]] Draw next();
  void end_step() { ++state_.step; }
  // Packs drawn divided by the packs of an epoch over all sources.
  [[nodiscard]] double epoch() const;
  [[nodiscard]] const SamplerState& state() const { return state_; }
  // Code 3 if the state does not belong to this seed, this kind of order and these sources.
  void restore(const SamplerState& state, const std::string& place);

 private:
  [[nodiscard]] Draw next_by_deficit() const;
  [[nodiscard]] Draw next_of_numpy();

  std::vector<SamplerSource> sources_;
  std::vector<uint64_t> weight_;  // integers; their sum is total_weight_
  uint64_t total_weight_ = 0;
  int64_t total_packs_ = 0;  // of an epoch
  DataOrder order_;
  std::optional<NumpyOrder> numpy_;
  SamplerState state_;
};

}  // namespace ink
