#include "launch/trainer/session.h"

#include "configs/schema/validate.h"
#include "data/tokenizer/load.h"
#include "launch/kernel_choices.h"
#include "launch/trainer/reference_log.h"
#include "models/common/positions.h"
#include "optim/checkpoint/load.h"
#include "optim/policy/gradient_type.h"

namespace ink {
namespace {

Recompute recompute_of(RecomputeMode mode) {
  switch (mode) {
    case RecomputeMode::kNone:
      return Recompute::kNone;
    case RecomputeMode::kSelective:
      return Recompute::kSelective;
    case RecomputeMode::kFull:
      return Recompute::kFull;
  }
  throw InternalError("unknown recompute mode");
}

LossMean loss_mean_of(const SessionPlan& plan) {
  return plan.run.train.compat.loss_mean ? LossMean::kMicroBatches : LossMean::kTokens;
}

DocumentOrder document_order(const RunOptions& run) {
  return run.train.compat.sampler ? DocumentOrder::kNumpy : DocumentOrder::kPermuted;
}

// Of the log line; nobody asks for types otherwise.
std::vector<int64_t> type_of_source(const SessionPlan& plan) {
  if (!plan.run.train.compat.log_line) return {};
  return text_types(plan.data).type_of_source;
}

TrainStepOptions step_options_of(const SessionPlan& plan) {
  return {.loss_mean = loss_mean_of(plan),
          .label_smoothing = plan.run.train.label_smoothing,
          .z_loss = plan.run.train.z_loss,
          .rope_length = training_rope_length(plan.model.options, plan.run.data.max_length),
          .seed = static_cast<uint64_t>(plan.run.train.seed),
          .graphs = plan.run.train.cuda_graph,
          .max_length = plan.run.data.max_length,
          .type_of_source = type_of_source(plan)};
}

// Packs are full but for the last one of an epoch; samples are not. A card's micro-batches keep one
// shape, for graphs and measured kernels.
SlotPadding padding_of(const SessionPlan& plan) {
  const bool fixed = plan.run.data.packing || plan.seat.device != Device::kCpu;
  return fixed ? SlotPadding::kFull : SlotPadding::kNone;
}

}  // namespace

SessionPlan plan_session(const LoadedRun& loaded, int world, const DeviceSeat& seat,
                         const SessionFlags& flags,
                         const std::function<void(const PrepareProgress&)>& progress) {
  SessionPlan plan{.run = loaded.options,
                   .seat = seat,
                   .allow_data_change = flags.allow_data_change,
                   .places = loaded.places};
  const RunOptions& run = plan.run;
  const ParallelSection& p = run.parallel;
  plan.mesh = mesh_for_world(world, static_cast<int>(p.tensor), static_cast<int>(p.sequence),
                             static_cast<int>(p.ring), static_cast<int>(p.pipeline));
  const BatchSizes sizes = plan_batch(run, plan.mesh.data, plan.places);
  plan.accumulation = sizes.accumulation;
  plan.batches = {.global_batch_size = sizes.global_batch_size,
                  .ramp = run.train.batch_ramp,
                  .skip = run.train.skip_steps};
  plan.batches.validate(plan.mesh.data, run.train.micro_batch_size);
  plan.model = plan_model(run.model, plan.places, seat, flags.import);
  if (run.train.compat.init) plan.model.uniform_width = UniformWidth::kInternEvo;
  plan.model.gradients =
      gradient_dtype(run.optim, plan.model.compute, plan.accumulation, plan.mesh.data, plan.places);
  if (!plan.model.tokenizer.empty()) {
    plan.tokenizer = load_tokenizer(plan.model.tokenizer);
    check_vocabulary(*plan.tokenizer, plan.model.options.vocab_size, "model.vocab_size");
  }
  plan.data =
      open_data_set({.data = run.data,
                     .vocab_size = plan.model.options.vocab_size,
                     .seed = static_cast<uint64_t>(run.train.seed),
                     .order = document_order(run),
                     .cache = run.data.cache ? std::filesystem::path(*run.data.cache)
                                             : std::filesystem::path(run.checkpoint.dir) / "cache",
                     .tokenizer = plan.tokenizer,
                     .progress = progress});
  if (run.train.epochs) {
    constexpr double kMostPacks = 0x1p53;  // counted exactly
    const double packs = std::ceil(*run.train.epochs * static_cast<double>(plan.data.packs()));
    if (packs > kMostPacks)
      throw Error(ExitCode::kConfig, plan.places.of("train.epochs"),
                  fmt::format("train.epochs: expected at most {:.0f} packs in all, got {} * {}",
                              kMostPacks, *run.train.epochs, plan.data.packs()));
    plan.total_packs = static_cast<int64_t>(packs);
    plan.total_steps = plan.batches.steps_for(*plan.total_packs);
  } else {
    plan.total_steps = *run.train.steps;
  }
  return plan;
}

Session::Session(SessionPlan plan, ProcessGroup& world, std::unique_ptr<RankDevice> device)
    : plan_(std::move(plan)),
      world_(world),
      device_(std::move(device)),
      runtime_(device_->runtime()),
      model_(runtime_, plan_.model),
      optimizer_(runtime_, model_.parameters(), plan_.run.optim, plan_.total_steps,
                 static_cast<uint64_t>(plan_.run.train.seed), plan_.run.train.compat),
      step_(runtime_, model_.decoder(), model_.parameters(), optimizer_, device_->group(world_),
            step_options_of(plan_)) {
  runtime_.recompute = recompute_of(plan_.run.train.recompute);
  if (std::string notice = prepare_kernel_choices(runtime_, plan_.run.train.deterministic);
      !notice.empty())
    plan_.model.notices.push_back(std::move(notice));
}

std::vector<std::string> Session::start_fresh() {
  const auto seed = static_cast<uint64_t>(plan_.run.train.seed);
  // Drawn once where the optimizer's masters determine all parameters.
  const bool random = plan_.model.weights.empty();
  std::vector<std::string> notices;
  if (!random || !optimizer_.all_mastered()) notices = model_.fill(seed);
  if (random) {
    optimizer_.initialize_masters(seed);
  } else {
    optimizer_.copy_masters_from_parameters();
  }
  return notices;
}

nlohmann::json Session::restore(const OpenedCheckpoint& checkpoint) {
  const std::vector<StateTensor> tensors = state_tensors(model_.parameters(), optimizer_);
  load_state(checkpoint.path, checkpoint.manifest, tensors);
  const std::string place = (checkpoint.path / "manifest.json").string();
  if (!checkpoint.manifest.trainer.contains("optimizer"))
    throw Error(ExitCode::kBadInput, place, "trainer.optimizer: expected an object, got nothing");
  optimizer_.set_state(step_state_from_json(checkpoint.manifest.trainer["optimizer"], place));
  if (checkpoint.manifest.trainer.contains("kernels"))
    adopt_kernel_choices(runtime_, checkpoint.manifest.trainer["kernels"], place);
  return checkpoint.manifest.trainer;
}

LoaderOptions Session::loader_options() const {
  return {.dp_rank = coordinates_of(plan_.mesh, world_.rank()).data,
          .dp_size = plan_.mesh.data,
          .micro_batch_size = plan_.run.train.micro_batch_size,
          .max_length = plan_.run.data.max_length,
          .plan = plan_.batches,
          .seed = static_cast<uint64_t>(plan_.run.train.seed),
          .order = plan_.run.data.order,
          .numpy_order = plan_.run.train.compat.sampler,
          .reset_positions = plan_.run.data.reset_positions,
          .padding = padding_of(plan_),
          .steps = plan_.total_steps,
          .total_packs = plan_.total_packs};
}

}  // namespace ink
