// What the trainer does with the model between steps: evaluation, the mark of the best, samples.
#include <cmath>

#include "launch/report/metrics_file.h"
#include "launch/trainer/trainer.h"

namespace ink {

bool Trainer::evaluate() {
  flush();
  SessionPlan& plan = session_.plan();
  if (plan.data.eval.empty() || rollback_) return true;
  const double start = elapsed();
  EvalRow row{.step = counters_.step};
  for (const EvalPacks& set : plan.data.eval) {
    const LoaderOptions o = session_.loader_options();
    const EvalLoader loader(set.packs, {.dp_rank = o.dp_rank,
                                        .dp_size = o.dp_size,
                                        .micro_batch_size = o.micro_batch_size,
                                        .max_packs = plan.run.train.eval_batches.value_or(0) *
                                                     plan.batches.global_batch_size,
                                        .reset_positions = o.reset_positions,
                                        .padding = o.padding});
    const EvalResult result = session_.step().evaluate(
        loader.size(), [&](int64_t i) { return loader.read(i); }, loader.trained(),
        [&] { return vote_to_stop(); });
    if (!result.complete) return false;
    row.sets.push_back({.name = set.name,
                        .loss = result.loss,
                        .accuracy = result.accuracy,
                        .tokens = result.trained});
  }
  row.seconds = elapsed() - start;
  if (log_ != nullptr) log_->eval(row);
  judge(row);
  return true;
}

// The untrained model of step 0 is no candidate, nor is one in the middle of a loss spike.
void Trainer::judge(const EvalRow& row) {
  if (!session_.plan().run.checkpoint.keep_best || row.step == 0 || watchdog_.spike()) return;
  const double loss = mean_loss(row);
  if (!std::isfinite(loss) || (best_ && loss >= best_->eval_loss)) return;
  if (log_ != nullptr)
    log_->note(fmt::format(
        "best  step {}  eval loss {:.4f}{}", row.step, loss,
        best_ ? fmt::format(", before it step {} with {:.4f}", best_->step, best_->eval_loss)
              : ""));
  best_ = {.step = row.step, .eval_loss = loss};
}

void Trainer::sample() {
  flush();
  if (log_ == nullptr || !options_.sample) return;
  for (const SampleRow& row : options_.sample(counters_.step)) log_->sample(row);
}

}  // namespace ink
