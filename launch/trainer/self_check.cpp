#include "launch/trainer/self_check.h"

#include <array>
#include <bit>
#include <chrono>
#include <cmath>

#include "engine/tensor/host_bytes.h"
#include "optim/checkpoint/snapshot.h"

namespace ink {
namespace {

constexpr double kTolerance = 1e-6;  // relative

// Adds the time of a scope.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_ = Clock::now();
};

template <class T>
double squares_of(std::span<const std::byte> bytes) {
  constexpr size_t kLanes = 8;
  const std::span values(reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T));
  std::array<double, kLanes> lanes{};
  for (size_t i = 0; i < values.size(); ++i) {
    double value = 0;
    if constexpr (std::is_same_v<T, double>) {
      value = values[i];
    } else {
      value = static_cast<double>(static_cast<float>(values[i]));
    }
    lanes[i % kLanes] += value * value;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

double squares_of(const Tensor& tensor) {
  double sum = 0;
  visit_float(tensor.dtype(), [&]<class T>() {
    visit_host_bytes(tensor,
                     [&](std::span<const std::byte> bytes) { sum += squares_of<T>(bytes); });
  });
  return sum;
}

bool agree(double expected, double got) {
  if (!std::isfinite(expected) || !std::isfinite(got))
    return std::isfinite(expected) == std::isfinite(got);
  return std::abs(got - expected) <= kTolerance * std::abs(expected);
}

// What a rank says about its norm: recomputed and reported, expected and reported clip factor.
using NormWords = std::array<double, 4>;

}  // namespace

bool SelfCheck::due(int64_t step) const {
  return options_.every && (step == options_.first_step || step % *options_.every == 0);
}

// The scale is that of this step: the update may change it.
void SelfCheck::look_at_gradients() {
  const Stopwatch watch(seconds_);
  double sum = 0;
  for (const OptimizerSlot& slot : optimizer_.slots()) {
    const Leaf& leaf = *slot.parameter->leaf();
    if (!leaf.has_grad) continue;
    sum += squares_of(leaf.grad);
    if (group_.size() > 1) hashes_.add("gradient/" + slot.parameter->name, leaf.grad);
  }
  if (!optimizer_.looks_at_norm()) return;  // the step has no norm to compare
  const double scale = optimizer_.state().loss_scale;
  own_ = {.norm = std::sqrt(sum) / scale, .loss_scale = scale};
}

SelfCheckRow SelfCheck::finish(int64_t step, const StepResult& result,
                               const std::vector<SharedFact>& facts) {
  SelfCheckRow row{.step = step, .ranks = group_.size()};
  {
    const Stopwatch watch(seconds_);
    if (own_) {
      check_norms(step, result);
      row.grad_norm = result.state.grad_norm;
      row.recomputed = own_->norm;
    }
    if (group_.size() > 1) {
      check_replicas(step, facts);
      row.compared = static_cast<int64_t>(hashes_.names().size());
    }
  }
  passed_ = step;
  own_.reset();
  hashes_ = {};
  row.seconds = std::exchange(seconds_, 0);
  return row;
}

// Every rank hears of every rank's, so that all leave together.
void SelfCheck::check_norms(int64_t step, const StepResult& result) const {
  const double clip = options_.clip_norm;
  const double excess = clip > 0 ? (own_->norm + 1e-6) / clip : 1.0;
  const double factor = 1 / (own_->loss_scale * std::fmax(1.0, excess));
  const bool updated = result.state.skip == 0;
  const NormWords mine = {own_->norm, result.state.grad_norm, updated ? factor : 1.0,
                          updated ? result.state.grad_factor : 1.0};
  std::vector<uint64_t> words;
  for (const double value : mine) words.push_back(std::bit_cast<uint64_t>(value));
  const std::vector<uint64_t> all = gather_words(words, group_);
  for (size_t at = 0; at < all.size(); at += mine.size()) {
    NormWords rank{};
    for (size_t i = 0; i < rank.size(); ++i) rank[i] = std::bit_cast<double>(all[at + i]);
    if (agree(rank[0], rank[1]) && agree(rank[2], rank[3])) continue;
    throw Error(ExitCode::kNumerical, fmt::format("step {}: rank {}", step, at / mine.size()),
                fmt::format("gradient norm: expected {} and clip factor {} from the gradients "
                            "themselves, got {} and {}",
                            rank[0], rank[2], rank[1], rank[3]),
                last_good());
  }
}

void SelfCheck::check_replicas(int64_t step, const std::vector<SharedFact>& facts) {
  for (const StateTensor& state : state_tensors(table_, optimizer_))
    hashes_.add(state.name, state.tensor);
  hashes_.add("optimizer clock", to_json(optimizer_.state()).dump());
  for (const SharedFact& fact : facts) hashes_.add(fact.name, fact.text);
  const auto difference = compare_replicas(hashes_, group_);
  if (!difference) return;
  throw Error(
      ExitCode::kNumerical, fmt::format("step {}: {}", step, difference->name),
      fmt::format("expected equal replicas, got {} ({} of {} hashes differ)",
                  describe_hashes(difference->hashes), difference->count, hashes_.names().size()),
      last_good());
}

std::string SelfCheck::last_good() const {
  return passed_ > 0 ? fmt::format(
                           "the last self-check that passed is that of step {}; later saves "
                           "may be spoilt",
                           passed_)
                     : "no self-check of this run has passed; its saves may be spoilt";
}

}  // namespace ink
