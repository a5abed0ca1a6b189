#include "launch/trainer/loss_watchdog.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/io/json.h"

namespace ink {

bool LossWatchdog::judge(int64_t step, double loss) {
  if (!options_ || !std::isfinite(loss)) return false;
  const auto window = static_cast<size_t>(options_->window);
  const bool full = losses_.size() >= window;
  const double reference = full ? median() : 0;
  const bool above = full && loss > options_->factor * reference;
  losses_.push_back(loss);
  if (losses_.size() > window) losses_.pop_front();
  if (!above) {
    spike_.reset();
    return false;
  }
  if (!spike_) spike_ = LossSpike{.since = step};
  spike_->last = step;
  ++spike_->length;
  spike_->loss = loss;
  spike_->reference = reference;
  return spike_->length >= options_->patience;
}

double LossWatchdog::median() const {
  std::vector<double> sorted(losses_.begin(), losses_.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::ranges::nth_element(sorted, middle);
  return *middle;
}

nlohmann::json LossWatchdog::state() const {
  if (!options_) return nullptr;
  nlohmann::json state{{"losses", losses_}};
  if (spike_)
    state["spike"] = {{"since", spike_->since},
                      {"last", spike_->last},
                      {"length", spike_->length},
                      {"loss", spike_->loss},
                      {"reference", spike_->reference}};
  return state;
}

void LossWatchdog::restore(const nlohmann::json& state, const std::string& place) {
  if (!options_) return;
  const JsonReader reader(state, place, "trainer.loss_watchdog");
  const nlohmann::json& losses = reader.at("losses");
  if (!losses.is_array()) throw reader.error("losses", "a list of numbers");
  losses_.clear();
  for (const nlohmann::json& loss : losses) {
    if (!loss.is_number()) throw reader.error("losses", "a list of numbers");
    losses_.push_back(loss.get<double>());
  }
  while (losses_.size() > static_cast<size_t>(options_->window)) losses_.pop_front();
  spike_.reset();
  if (!reader.has("spike")) return;
  const JsonReader spike = reader.object("spike");
  spike_ = {.since = spike.integer("since", 1),
            .last = spike.integer("last", 1),
            .length = spike.integer("length", 1),
            .loss = spike.number("loss"),
            .reference = spike.number("reference")};
}

}  // namespace ink
