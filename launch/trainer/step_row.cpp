#include "launch/trainer/step_row.h"

#include "engine/kernels/library_versions.h"

namespace ink {
namespace {

// InternEvo's count: full attention, multi-head, recomputation included (f = 4 instead of 3).
double reference_flops(const SessionPlan& plan, int64_t tokens) {
  const ModelOptions& m = plan.model.options;
  const double f = plan.run.train.recompute == RecomputeMode::kFull ? 4.0 : 3.0;
  const double s = static_cast<double>(plan.run.data.max_length), t = static_cast<double>(tokens);
  const double h = static_cast<double>(m.hidden_size),
               layers = static_cast<double>(m.num_hidden_layers);
  const double ratio = static_cast<double>(m.intermediate_size) / h;
  return f * (8 + 6 * ratio) * t * h * h * layers + f * 4 * t * s * h * layers +
         6 * t * h * static_cast<double>(m.vocab_size);
}

}  // namespace

double squared_lengths(const HostBatch& batch) {
  double sum = 0;
  for (size_t d = 0; d + 1 < batch.cu_seqlens.size(); ++d) {
    if (batch.source_ids[d] < 0) continue;
    const double length = batch.cu_seqlens[d + 1] - batch.cu_seqlens[d];
    sum += length * length;
  }
  return sum;
}

StepRow make_step_row(Session& session, const StepBatch& batch, const StepResult& result,
                      const StepTimes& times) {
  const SessionPlan& plan = session.plan();
  const int devices = session.world().size();
  const MemoryReport memory = session.runtime().allocator().report();
  StepRow row{.step = batch.step, .total_steps = plan.total_steps, .epoch = batch.epoch};
  row.loss = result.loss;
  row.lr = result.state.lr;
  row.grad_norm = result.state.grad_norm;
  row.loss_scale = result.state.loss_scale;
  row.beta2 = result.state.beta2;
  row.skipped = result.state.skipped;
  row.skip_reason = batch.skipped            ? "skip_steps"
                    : result.empty           ? "empty"
                    : result.state.skip == 0 ? ""
                    : result.spiked()        ? "loss_spike"
                                             : "non-finite";
  row.tokens = batch.real_tokens;
  row.trained_tokens = batch.trained;
  row.fill_rate = batch.tokens > 0
                      ? static_cast<double>(batch.real_tokens) / static_cast<double>(batch.tokens)
                      : 1.0;
  row.step_time = times.seconds;
  row.data_time = times.data_seconds;
  row.comm_time = result.comm_seconds;
  row.tokens_per_s = times.seconds > 0 ? static_cast<double>(batch.real_tokens) / times.seconds : 0;
  row.tokens_per_s_per_device = row.tokens_per_s / devices;
  row.mem_peak = memory.total_peak;
  row.mem_reserved = memory.reserved;
  row.mem_limit = memory.limit;
  if (times.peak && times.seconds > 0 && !batch.skipped) {
    const double available = *times.peak * devices * times.seconds;
    row.mfu =
        training_flops(plan.model.options, batch.real_tokens, times.squared_lengths) / available;
    row.mfu_noncausal =
        training_flops(plan.model.options, batch.real_tokens, 2 * times.squared_lengths) /
        available;
  }
  for (const GroupNorm& group : result.group_norms)
    row.group_norms.emplace_back(group.name, group.norm);
  if (plan.run.log.reference_tflops || plan.run.train.compat.log_line)
    row.reference_tflops = reference_flops(plan, batch.tokens) / (times.seconds * devices * 1e12);
  return row;
}

}  // namespace ink
