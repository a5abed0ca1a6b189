#include "launch/trainer/train_step.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/core/trace.h"
#include "launch/trainer/device_batch.h"
#include "launch/trainer/nan_gradient.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

template <class T>
T value_at(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// Token losses of the trained positions, added in f64 in token order.
double sum_of(const Tensor& values) {
  double sum = 0;
  if (values.dtype() == DType::kF64) {
    for (const double value : to_vector<double>(values)) sum += value;
  } else {
    for (const float value : to_vector<float>(values)) sum += static_cast<double>(value);
  }
  return sum;
}

}  // namespace

TrainStep::TrainStep(Runtime& runtime, const Decoder& model, ParameterTable& table,
                     AdamW& optimizer, ProcessGroup& data_parallel, TrainStepOptions options)
    : runtime_(runtime),
      model_(model),
      optimizer_(optimizer),
      group_(data_parallel),
      table_(table),
      options_(options),
      reducer_(runtime, table, data_parallel,
               {.bucket_bytes = options.bucket_bytes, .overlap = options.overlap}),
      micro_batch_(runtime, model, table,
                   {.rope_length = options.rope_length,
                    .seed = options.seed,
                    .graphs = options.graphs,
                    .max_length = options.max_length,
                    .keep_scores = !options.type_of_source.empty()}) {
  options_.keep_gradients |= options.graphs && runtime.device() == Device::kCuda;
  if (options_.keep_gradients) table.place_gradients(runtime);
}

void TrainStep::sum_over_ranks(std::span<double> values) {
  if (group_.size() == 1) return;
  const Scoped tag(runtime_.tag, MemoryTag::kCommunication);
  const Tensor all = to_tensor<double>(runtime_, std::span<const double>(values),
                                       {static_cast<int64_t>(values.size())});
  group_.all_reduce(all, ReduceOp::kSum)->wait();
  const std::vector<double> summed = to_vector<double>(all);
  std::copy(summed.begin(), summed.end(), values.begin());
}

void TrainStep::start(const StepWork& work) {
  Started started{.empty = work.trained == 0, .local = work.local, .begin = mark(runtime_)};
  if (started.empty) {
    read_losses_later(started, Tensor());
    read_later(started);
    started_.push_back(std::move(started));
    return;
  }
  const DType dtype = model_.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  Tensor losses_M(runtime_, {static_cast<int64_t>(work.micro_batches.size())}, dtype);
  micro_batches(work, losses_M, started);
  if (has_no_mean(work)) write_nan_gradient(table_);
  if (work.spoil) work.spoil();
  {
    const TraceRange range("reduce");
    const auto start = Clock::now();
    reducer_.finish();
    started.comm_seconds = seconds_since(start);
  }
  if (work.reduced) work.reduced();
  if (work.veto) {
    read_losses_later(started, losses_M);
    read_sums(started);
    started.vetoed = work.veto(started.sums[0]);
  }
  {
    const TraceRange range("update");
    optimizer_.step(started.vetoed ? Update::kNone : Update::kIfFinite);
  }
  if (!started.losses) read_losses_later(started, losses_M);
  read_later(started);
  started_.push_back(std::move(started));
  if (group_.size() == 1 && !options_.keep_gradients) table_.release_gradients();
}

double TrainStep::divisor_of(const StepWork& work, const HostBatch& micro_batch) const {
  if (options_.loss_mean == LossMean::kTokens) return static_cast<double>(work.trained);
  const auto means = static_cast<double>(work.micro_batches.size()) * group_.size();
  return means * static_cast<double>(micro_batch.trained);
}

bool TrainStep::has_no_mean(const StepWork& work) const {
  return options_.loss_mean == LossMean::kMicroBatches &&
         std::ranges::any_of(work.micro_batches, [](const HostBatch& b) { return b.trained == 0; });
}

// A spoilt gradient must be there before its bucket leaves, so a step with a fault reduces at its
// end.
void TrainStep::micro_batches(const StepWork& work, Tensor& losses_M, Started& started) {
  const auto start = Clock::now();
  const double before = micro_batch_.backward_seconds();
  if (!options_.type_of_source.empty())
    started.scores = std::make_unique<TokenScores>(runtime_, work.micro_batches, losses_M.dtype());
  GlobalBatch batch{.divisor = 0, .step = work.step - 1};
  LmLossOptions loss_options{.step_state = optimizer_.state_tensor(),
                             .label_smoothing = options_.label_smoothing,
                             .z_loss = options_.z_loss};
  const bool spoilt = work.spoil || has_no_mean(work);
  for (size_t i = 0; i < work.micro_batches.size(); ++i) {
    loss_options.divisor = divisor_of(work, work.micro_batches[i]);
    if (i == 0 || loss_options.divisor != batch.divisor) {
      batch.divisor = loss_options.divisor;
      optimizer_.begin(batch);
    }
    const bool reduced = i + 1 == work.micro_batches.size() && !spoilt;
    Tensor loss = losses_M.flat(static_cast<int64_t>(i), {});
    micro_batch_.run(work.micro_batches[i], loss_options, batch.step,
                     reduced && group_.size() > 1 ? &reducer_ : nullptr, loss);
    if (started.scores) started.scores->keep(i, micro_batch_.scores());
  }
  const bool seen = runtime_.device() == Device::kCpu;
  started.forward_backward_seconds = seen ? seconds_since(start) : std::nan("");
  started.backward_seconds = seen ? micro_batch_.backward_seconds() - before : std::nan("");
}

// Ranks on the processor add up when the step is finished, as they wait for each other anyway. On a
// card that would wait for the next step too: the values are gathered behind this one.
void TrainStep::read_losses_later(Started& started, const Tensor& losses_M) {
  DeviceBackend& backend = runtime_.backend();
  const int64_t loss_bytes = losses_M.defined() ? losses_M.bytes() : 0;
  if (group_.size() == 1 || runtime_.device() == Device::kCpu) {
    started.losses = backend.read_later(losses_M.raw(), loss_bytes);
    return;
  }
  const Scoped tag(runtime_.tag, MemoryTag::kCommunication);
  constexpr auto kLocal = static_cast<int64_t>(sizeof started.local);
  started.ranks = group_.size();
  const Tensor mine(runtime_, {kLocal + loss_bytes}, DType::kU8);
  const Tensor all(runtime_, {started.ranks * mine.bytes()}, DType::kU8);
  backend.copy_from_host(mine.raw(), started.local.data(), kLocal);
  backend.copy(static_cast<std::byte*>(mine.raw()) + kLocal, losses_M.raw(), loss_bytes);
  group_.all_gather(mine, all)->wait();
  started.losses = backend.read_later(all.raw(), all.bytes());
}

void TrainStep::read_later(Started& started) {
  DeviceBackend& backend = runtime_.backend();
  if (started.scores) started.scores->read_later();
  started.state =
      backend.read_later(optimizer_.state_tensor().raw(), optimizer_.state_tensor().bytes());
  started.squares = backend.read_later(optimizer_.squares().raw(), optimizer_.squares().bytes());
  started.end = mark(runtime_);
}

// {loss, local values}, added in f64, micro-batch after micro-batch and then rank after rank.
void TrainStep::read_sums(Started& started) {
  if (!started.sums.empty()) return;
  const bool wide = model_.dtype() == DType::kF64;
  const std::span<const std::byte> bytes = started.losses->wait();
  const bool gathered = started.ranks > 1;
  const size_t part = bytes.size() / static_cast<size_t>(started.ranks);
  std::vector<double> sums(1 + started.local.size());
  for (int64_t rank = 0; rank < started.ranks; ++rank) {
    std::span<const std::byte> rest = bytes.subspan(static_cast<size_t>(rank) * part, part);
    std::array<double, 2> local = started.local;
    if (gathered) {
      std::memcpy(local.data(), rest.data(), sizeof local);
      rest = rest.subspan(sizeof local);
    }
    double loss = 0;
    for (size_t at = 0; at < rest.size(); at += wide ? sizeof(double) : sizeof(float))
      loss += wide ? value_at<double>(rest, at) : double{value_at<float>(rest, at)};
    sums[0] += loss;
    for (size_t i = 0; i < local.size(); ++i) sums[1 + i] += local[i];
  }
  if (!gathered) {
    const auto start = Clock::now();
    sum_over_ranks(sums);
    started.comm_seconds += seconds_since(start);
  }
  started.sums = std::move(sums);
}

std::optional<DeviceTimes> TrainStep::times_of(Started& started) {
  if (!started.end) return std::nullopt;
  DeviceTimes times{.alone = started.end->seconds_since(*started.begin),
                    .in_line = std::numeric_limits<double>::infinity()};
  if (last_end_) times.in_line = started.end->seconds_since(*last_end_);
  last_end_ = std::move(started.end);
  return times;
}

StepResult TrainStep::finish() {
  CHECK(!started_.empty(), "no step was started");
  Started started = std::move(started_.front());
  started_.pop_front();
  StepResult result{.empty = started.empty, .vetoed = started.vetoed};
  result.state = value_at<StepState>(started.state->wait(), 0);
  read_sums(started);
  result.comm_seconds = started.comm_seconds;
  result.loss = started.sums[0];
  result.forward_backward_seconds = started.forward_backward_seconds;
  result.backward_seconds = started.backward_seconds;
  result.device = times_of(started);
  if (started.scores) result.types = types_of(started);
  std::copy(started.sums.begin() + 1, started.sums.end(), result.sums.begin());
  const bool grouped = !optimizer_.norm_groups().empty();
  if (result.empty || (result.state.skip == 0 && !grouped)) return result;
  const std::span<const std::byte> bytes = started.squares->wait();
  std::vector<double> squares(bytes.size() / sizeof(double));
  std::memcpy(squares.data(), bytes.data(), bytes.size());
  if (grouped)
    result.group_norms = group_norms(optimizer_.norm_groups(), squares, result.state.grad_norm);
  if (result.state.skip != 0) result.bad_gradient = optimizer_.first_nonfinite(squares);
  return result;
}

std::vector<TypeScore> TrainStep::types_of(Started& started) {
  const auto count = std::ranges::max(options_.type_of_source) + 1;
  std::vector<TypeScore> types = started.scores->sums(options_.type_of_source, count);
  std::vector<double> sums;
  for (const TypeScore& type : types)
    sums.insert(sums.end(), {type.loss, type.correct, type.tokens});
  sum_over_ranks(sums);
  for (size_t i = 0; i < types.size(); ++i)
    types[i] = {.loss = sums[3 * i], .correct = sums[3 * i + 1], .tokens = sums[3 * i + 2]};
  return types;
}

EvalResult TrainStep::evaluate(int64_t count, const std::function<HostBatch(int64_t)>& read,
                               int64_t trained, const std::function<bool()>& poll) {
  const TraceRange range("evaluate");
  const Scoped no_grad(runtime_.grad_enabled, false);
  const Scoped no_dropout(runtime_.training, false);
  std::array<double, 2> sums{};
  for (int64_t i = 0; i < count; ++i) {
    const HostBatch host = read(i);
    const auto add_up = [&] {
      const Batch batch = to_device(runtime_, micro_batch_.in_shape(host), 1.0, 0);
      const LmLoss loss = model_.loss(batch, options_.rope_length, options_.seed, {});
      sums[0] += sum_of(loss.token_loss_T);
      for (const int32_t correct : to_vector<int32_t>(loss.correct_T)) sums[1] += correct;
    };
    if (host.trained > 0) micro_batch_.between(add_up);
    if (poll && poll()) return {.trained = trained, .complete = false};
  }
  sum_over_ranks(sums);
  const double divisor = static_cast<double>(std::max<int64_t>(trained, 1));
  return {.loss = sums[0] / divisor, .accuracy = sums[1] / divisor, .trained = trained};
}

}  // namespace ink
