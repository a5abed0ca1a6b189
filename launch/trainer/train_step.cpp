#include "launch/trainer/train_step.h"

#include <chrono>

#include "engine/autograd/backward.h"
#include "launch/trainer/device_batch.h"

namespace ink {
namespace {

double read_scalar(const Tensor& scalar) {
  return scalar.dtype() == DType::kF64 ? to_vector<double>(scalar)[0]
                                       : static_cast<double>(to_vector<float>(scalar)[0]);
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
      reducer_(runtime, table, data_parallel, {.overlap = options.overlap}) {}

void TrainStep::sum_over_ranks(std::span<double> values) {
  if (group_.size() == 1) return;
  const Scoped tag(runtime_.tag, MemoryTag::kCommunication);
  const Tensor all = to_tensor<double>(runtime_, std::span<const double>(values),
                                       {static_cast<int64_t>(values.size())});
  group_.all_reduce(all, ReduceOp::kSum)->wait();
  const std::vector<double> summed = to_vector<double>(all);
  std::copy(summed.begin(), summed.end(), values.begin());
}

StepResult TrainStep::run(std::span<const HostBatch> micro_batches, int64_t trained, int64_t step,
                          const std::function<void()>& spoil) {
  StepResult result;
  if (trained == 0) {
    result.empty = true;
    result.state = optimizer_.state();
    return result;
  }
  optimizer_.begin({.divisor = static_cast<double>(trained), .step = step - 1});
  const LmLossOptions loss_options{.divisor = static_cast<double>(trained),
                                   .step_state = optimizer_.state_tensor(),
                                   .label_smoothing = options_.label_smoothing,
                                   .z_loss = options_.z_loss};
  // A spoilt gradient must be there before its bucket leaves, so a step with a fault reduces at its
  // end.
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    if (i + 1 == micro_batches.size() && !spoil) reducer_.arm();
    Batch batch = to_device(runtime_, micro_batches[i], loss_options.divisor, step - 1);
    batch.step_state = optimizer_.state_tensor();
    const LmLoss loss = model_.loss(batch, options_.rope_length, options_.seed, loss_options);
    result.loss += read_scalar(loss.loss);
    backward(loss.loss);
  }
  if (spoil) spoil();
  const auto start = std::chrono::steady_clock::now();
  reducer_.finish();
  sum_over_ranks({&result.loss, 1});
  result.comm_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  optimizer_.step();
  result.state = optimizer_.state();
  if (result.state.skip != 0) result.bad_gradient = optimizer_.first_nonfinite_gradient();
  if (group_.size() == 1 && !options_.keep_gradients) table_.release_gradients();
  return result;
}

EvalResult TrainStep::evaluate(int64_t count, const std::function<HostBatch(int64_t)>& read,
                               int64_t trained, const std::function<bool()>& poll) {
  const Scoped no_grad(runtime_.grad_enabled, false);
  const Scoped no_dropout(runtime_.training, false);
  std::array<double, 2> sums{};
  for (int64_t i = 0; i < count; ++i) {
    const HostBatch host = read(i);
    if (host.trained > 0) {
      const Batch batch = to_device(runtime_, host, 1.0, 0);
      const LmLoss loss = model_.loss(batch, options_.rope_length, options_.seed, {});
      sums[0] += sum_of(loss.token_loss_T);
      for (const int32_t correct : to_vector<int32_t>(loss.correct_T)) sums[1] += correct;
    }
    if (poll && poll()) return {.trained = trained, .complete = false};
  }
  sum_over_ranks(sums);
  const double divisor = static_cast<double>(std::max<int64_t>(trained, 1));
  return {.loss = sums[0] / divisor, .accuracy = sums[1] / divisor, .trained = trained};
}

}  // namespace ink
