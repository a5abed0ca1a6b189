#include "tests/support/trainee.h"

#include "engine/autograd/backward.h"
#include "launch/trainer/device_batch.h"
#include "models/family.h"
#include "parallel/comm/device_group.h"

namespace ink {
namespace {

constexpr int64_t kTotalSteps = 10;  // the constant rate of the recipe does not depend on it

ModelOptions with_dropout(ModelOptions options, double dropout) {
  options.dropout = dropout;
  return options;
}

std::unique_ptr<Decoder> build(Runtime& runtime, ParameterTable& table, const Golden& golden,
                               const ModelOptions& options, const TraineeOptions& how) {
  runtime.recompute = how.recompute;
  SerialBuilder builder(table);
  std::unique_ptr<Decoder> model = make_model(builder, options);
  table.materialize(runtime, how.compute,
                    how.optim.grad_dtype == StateDtype::kBf16 ? DType::kBF16 : DType::kF32);
  golden.load(table);
  return model;
}

Values flat_values(const Tensor& tensor) { return to_values(tensor.reshape({tensor.numel()})); }

}  // namespace

OptimSection golden_recipe() {
  OptimSection optim;
  optim.lr = 1e-3;
  optim.betas = {0.9, 0.95};
  optim.eps = 1e-5;
  optim.weight_decay = 0.1;
  optim.clip_norm = 0.5;
  optim.schedule = ScheduleType::kConstant;
  optim.warmup_steps = 4;
  return optim;
}

TraineeOptions::TraineeOptions() : optim(golden_recipe()) {}

Trainee::Trainee(const Golden& golden, ProcessGroup& group, const TraineeOptions& options)
    : threads_(options.threads > 0 ? options.threads : thread_count()),
      options_(with_dropout(golden.options(), options.dropout)),
      runtime_({}, make_backend(options.device, options.ordinal)),
      device_group_(make_device_group(runtime_, group)),
      model_(build(runtime_, table_, golden, options_, options)),
      optimizer_(runtime_, table_, options.optim, kTotalSteps, 0),
      step_(runtime_, *model_, table_, optimizer_, device_group_ ? *device_group_ : group,
            {.loss_mean = options.loss_mean,
             .overlap = options.overlap,
             .bucket_bytes = options.bucket_bytes,
             .keep_gradients = true,
             .graphs = options.graphs,
             .max_length = options.max_length}) {
  optimizer_.copy_masters_from_parameters();
}

NamedValues Trainee::parameters() const {
  return hf_values(
      options_, [&](const std::string& name) { return flat_values(table_.find(name)->value()); });
}

NamedValues Trainee::gradients() const {
  return hf_values(options_,
                   [&](const std::string& name) { return flat_values(table_.find(name)->grad()); });
}

NamedValues Trainee::moments(Tensor OptimizerSlot::*moment) {
  return hf_values(options_, [&](const std::string& name) {
    for (const OptimizerSlot& slot : optimizer_.slots()) {
      if (slot.parameter->name == name) return flat_values(slot.*moment);
    }
    throw InternalError("no state of " + name);
  });
}

NamedValues Trainee::first_moments() { return moments(&OptimizerSlot::m); }
NamedValues Trainee::second_moments() { return moments(&OptimizerSlot::v); }

double Trainee::loss_sum(const HostBatch& host) {
  const Scoped no_grad(runtime_.grad_enabled, false);
  const Batch batch = to_device(runtime_, host, 1.0, 0);
  double sum = 0;
  for (const double loss : to_values(model_->loss(batch, 0, 0, {}).token_loss_T)) sum += loss;
  return sum;
}

double Trainee::backward_of(const HostBatch& host, double divisor) {
  table_.clear_gradients();
  const Batch batch = to_device(runtime_, host, divisor, 0);
  const LmLoss loss = model_->loss(batch, 0, 0, {.divisor = divisor});
  backward(loss.loss);
  return to_values(loss.loss)[0];
}

}  // namespace ink
