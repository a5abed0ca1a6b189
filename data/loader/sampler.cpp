#include "data/loader/sampler.h"

#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "data/packing/permutation.h"
#include "engine/core/error.h"
#include "engine/io/json.h"

namespace ink {
namespace {

using Wide = __int128;

constexpr double kWeightUnits = 4294967296.0;  // 2^32

// Weights as integers: pack counts, or shares in units of 2^-32.
std::vector<uint64_t> integer_weights(const std::vector<SamplerSource>& sources) {
  double sum = 0;
  size_t given = 0;
  for (const SamplerSource& source : sources) {
    if (!source.weight) continue;
    if (!(*source.weight > 0) || !std::isfinite(*source.weight))
      throw Error(ExitCode::kConfig, "data.train[].weight",
                  fmt::format("expected a number above 0, got {}", *source.weight));
    sum += *source.weight;
    ++given;
  }
  if (given != 0 && given != sources.size())
    throw Error(ExitCode::kConfig, "data.train[].weight",
                fmt::format("expected a weight on every source or on none, got {} of {}", given,
                            sources.size()));
  std::vector<uint64_t> weights;
  for (const SamplerSource& source : sources) {
    const double units = source.weight ? std::round(*source.weight / sum * kWeightUnits)
                                       : static_cast<double>(source.packs);
    if (units < 1)
      throw Error(
          ExitCode::kConfig, "data.train[].weight",
          fmt::format("expected at least 2^-32 of the sum {}, got {}", sum, *source.weight));
    weights.push_back(static_cast<uint64_t>(units));
  }
  return weights;
}

}  // namespace

nlohmann::json SamplerState::to_json() const {
  nlohmann::json json{{"seed", seed}, {"step", step}, {"cursor", cursor}, {"drawn", drawn}};
  if (numpy) json["numpy"] = {{"epoch", numpy->epoch}, {"place", numpy->place}};
  return json;
}

SamplerState SamplerState::from_json(const nlohmann::json& json, const std::string& place) {
  const JsonReader reader(json, place);
  for (const std::string& key : reader.keys())
    if (key != "seed" && key != "step" && key != "cursor" && key != "drawn" && key != "numpy")
      throw Error(ExitCode::kBadInput, place, "unknown field " + quote_name(key));
  constexpr int64_t kMost = int64_t{1} << 62;
  SamplerState state;
  state.seed = static_cast<uint64_t>(reader.integer("seed", 0));
  state.step = reader.integer("step", 0, kMost);
  state.cursor = reader.integer("cursor", 0, kMost);
  state.drawn = reader.integers("drawn", 0, kMost);
  if (reader.has("numpy")) {
    const JsonReader at = reader.object("numpy");
    state.numpy = {.epoch = at.integer("epoch", 0, kMost), .place = at.integer("place", 0, kMost)};
  }
  return state;
}

Sampler::Sampler(std::vector<SamplerSource> sources, uint64_t seed, DataOrder order,
                 std::optional<int64_t> numpy_batch)
    : sources_(std::move(sources)), weight_(integer_weights(sources_)), order_(order) {
  CHECK(!sources_.empty(), "a sampler needs a source");
  for (size_t i = 0; i < sources_.size(); ++i) {
    CHECK(sources_[i].packs > 0 || numpy_batch, "source {} has {} packs", i, sources_[i].packs);
    total_packs_ += sources_[i].packs;
    total_weight_ += weight_[i];
  }
  state_.seed = seed;
  state_.drawn.assign(sources_.size(), 0);
  if (!numpy_batch) return;
  std::vector<int64_t> packs;
  for (const SamplerSource& source : sources_) packs.push_back(source.packs);
  numpy_.emplace(std::move(packs), *numpy_batch, seed);
  total_packs_ = numpy_->length();
  state_.numpy.emplace();
}

Draw Sampler::next() {
  const Draw draw = numpy_ ? next_of_numpy() : next_by_deficit();
  ++state_.drawn[static_cast<size_t>(draw.source)];
  ++state_.cursor;
  return draw;
}

Draw Sampler::next_of_numpy() {
  EpochPlace& at = *state_.numpy;
  if (at.place >= numpy_->length()) at = {.epoch = at.epoch + 1, .place = 0};
  const SourcePack pack = numpy_->at(at);
  ++at.place;
  return {.source = pack.source, .pack = pack.pack, .epoch = at.epoch};
}

Draw Sampler::next_by_deficit() const {
  size_t best = 0;
  Wide most = 0;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const Wide deficit = static_cast<Wide>(weight_[i]) * (state_.cursor + 1) -
                         static_cast<Wide>(state_.drawn[i]) * static_cast<Wide>(total_weight_);
    if (i > 0 && deficit <= most) continue;
    most = deficit;
    best = i;
  }
  const int64_t packs = sources_[best].packs, place = state_.drawn[best];
  Draw draw{static_cast<int32_t>(best), place % packs, place / packs};
  if (order_ == DataOrder::kShuffled) {
    const Permutation epoch(static_cast<uint64_t>(packs), state_.seed,
                            "packs/" + std::to_string(best), static_cast<uint64_t>(draw.epoch));
    draw.pack = static_cast<int64_t>(epoch.at(static_cast<uint64_t>(draw.pack)));
  }
  return draw;
}

double Sampler::epoch() const {
  return static_cast<double>(state_.cursor) / static_cast<double>(total_packs_);
}

void Sampler::restore(const SamplerState& state, const std::string& place) {
  const auto refuse = [&](const std::string& message) {
    throw Error(ExitCode::kBadInput, place, message);
  };
  if (state.seed != state_.seed)
    refuse(
        fmt::format("data state: expected seed {} of this run, got {}", state_.seed, state.seed));
  if (state.numpy.has_value() != numpy_.has_value())
    refuse(fmt::format("data state: expected train.compat.sampler {} as in the save, got {}",
                       state.numpy.has_value(), numpy_.has_value()));
  if (state.numpy && (state.numpy->epoch > state.cursor || state.numpy->place > state.cursor))
    refuse(fmt::format("data state: expected epoch and place of at most cursor {}, got {} and {}",
                       state.cursor, state.numpy->epoch, state.numpy->place));
  if (state.drawn.size() != sources_.size())
    refuse(fmt::format("data state: expected {} sources as in this run, got {}", sources_.size(),
                       state.drawn.size()));
  const int64_t sum = std::accumulate(state.drawn.begin(), state.drawn.end(), int64_t{0});
  if (sum != state.cursor)
    refuse(
        fmt::format("data state: expected drawn to sum to cursor {}, got {}", state.cursor, sum));
  state_ = state;
}

}  // namespace ink
