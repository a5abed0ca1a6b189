#include "launch/trainer/start_report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>

#include "data/loader/inspect.h"
#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "engine/io/json.h"
#include "engine/io/sha256.h"
#include "launch/doctor/machine.h"
#include "launch/trainer/run_length.h"

namespace ink {
namespace {

std::string layout_text(const SessionPlan& plan) {
  return fmt::format("dp{} x {} micro-batches x {} {} {} tokens", plan.mesh.data, plan.accumulation,
                     plan.run.train.micro_batch_size,
                     plan.run.data.packing ? "packs of" : "samples of up to",
                     plan.run.data.max_length);
}

const char* packs_text(const SessionPlan& plan) {
  return plan.run.data.packing ? "packs" : "samples";
}

std::string model_text(const SessionPlan& plan) {
  const ModelOptions& m = plan.model.options;
  return fmt::format("{} layers, hidden {}, heads {}/{}, vocabulary {}, {}", m.num_hidden_layers,
                     m.hidden_size, m.num_attention_heads, m.num_key_value_heads, m.vocab_size,
                     name_of(plan.model.compute));
}

std::string data_text(const SessionPlan& plan, const RunLength& length) {
  return fmt::format("{} documents, {} tokens, {} {}, {} steps per epoch", plan.data.documents(),
                     plan.data.tokens(), plan.data.packs(), packs_text(plan),
                     length.steps_per_epoch);
}

std::string compat_text(const std::vector<std::string>& switches) {
  return switches.empty() ? "none" : fmt::format("{}", fmt::join(switches, ", "));
}

// A save of before the switches has none.
std::vector<std::string> saved_switches(const OpenedCheckpoint& resume) {
  const JsonReader reader(resume.manifest.trainer, (resume.path / "manifest.json").string());
  return reader.has("compat") ? reader.strings("compat") : std::vector<std::string>{};
}

void warn_of_differences(RunLog& log, const OpenedCheckpoint& resume, const SessionPlan& plan) {
  const std::vector<std::string> switches = switches_of(plan.run.train.compat);
  if (const std::vector<std::string> saved = saved_switches(resume); saved != switches)
    log.warning("resume", fmt::format("train.compat: the save was made with {}, this run has {}: "
                                      "the run goes on by other rules",
                                      compat_text(saved), compat_text(switches)));
  const WriterInfo now = writer_info(plan, resume.manifest.writer.version);
  for (const std::string& line : differences(resume.manifest.writer, now)) {
    log.warning("resume",
                line + ": the run goes on, but not bit by bit (f32 losses agree to 1e-5)");
  }
}

// What the run may use: without a limit all that the card or the machine has. Nothing for a card
// that is not here.
std::optional<int64_t> available_memory(const SessionPlan& plan) {
  if (plan.run.train.memory_limit) return plan.run.train.memory_limit->value;
  if (plan.seat.card) return plan.seat.card->memory;
  if (plan.seat.device != Device::kCpu) return std::nullopt;
  const int64_t memory = look_at_machine().memory;
  return memory > 0 ? std::optional(memory) : std::nullopt;
}

// The table, and the levers where the whole of it does not fit.
std::string memory_text(const SessionPlan& plan) {
  const MemoryEstimate estimate = estimate_memory(plan);
  const std::optional<int64_t> available = available_memory(plan);
  if (!available || estimate.total() <= *available) return estimate.table();
  return estimate.table() + memory_levers(plan.model, plan.run, *available) + "\n";
}

// Often a sign of labels that are masked by mistake.
void warn_of_masked_packs(RunLog& log, const SessionPlan& plan) {
  constexpr int64_t kLooked = 100;
  for (const LoaderSource& source : plan.data.train) {
    const int64_t count = std::min(kLooked, source.packs->packs());
    uint64_t trained = 0;
    for (int64_t pack = 0; pack < count; ++pack) trained += source.packs->row(pack).trained;
    if (trained == 0)
      log.warning("masked", fmt::format("{}: no token is trained on in the first {} {}",
                                        source.packs->name(), count, packs_text(plan)));
  }
}

// The beginning of a pack.
TokenRange first_tokens(TokenRange range, size_t count) {
  if (count >= range.ids.size()) return range;
  range.next_label = kIgnoreLabel;
  range.ids.resize(count);
  range.untrained.resize(count);
  const auto later = std::ranges::lower_bound(range.starts, static_cast<int32_t>(count));
  const auto segments = static_cast<size_t>(later - range.starts.begin());
  range.starts.resize(segments);
  range.sources.resize(segments);
  range.origins.resize(segments);
  return range;
}

// As `data inspect` shows it, so that a wrong tokenizer, file or mask is seen at once.
void show_first_pack(RunLog& log, const SessionPlan& plan) {
  constexpr size_t kShown = 60;  // tokens
  if (!plan.tokenizer) return;
  const PackSource& source = *plan.data.train.front().packs;
  const InspectedPack shown =
      inspected(plan.run.data.packing ? "first pack" : "first sample",
                make_pack(first_tokens(source.read(0), kShown), plan.run.data.reset_positions),
                source.source_names());
  log.note("beginning of the " + shown.heading + "\n" +
           show_pack(shown, piece_text(plan.tokenizer), InspectColor::kMarks));
}

}  // namespace

void report_start(RunLog& log, Session& session, const StartFacts& facts) {
  const SessionPlan& plan = session.plan();
  const RunLength length = run_length(plan);
  const std::string config = dump_run(plan.run);
  const int64_t parameters = session.model().parameters().element_count();
  if (facts.resume) log.resume_at(facts.resume->manifest.step);
  log.run({.command = facts.command,
           .config_hash = sha256_of(std::as_bytes(std::span(config))).substr(0, 16),
           .layout = layout_text(plan),
           .devices = fmt::format("{} x {}", session.world().size(), plan.seat.text()),
           .model = model_text(plan),
           .resumed_from = facts.resume ? facts.resume->path.string() : "",
           .parameters = parameters,
           .trainable = parameters,
           .total_steps = plan.total_steps,
           .steps_per_epoch = length.steps_per_epoch,
           .tokens_per_step = length.tokens_per_step,
           .tokens_vary = !plan.run.data.packing,
           .instruction_set = instruction_set(),
           .libraries = plan.seat.libraries()});
  log.note("data: " + data_text(plan, length));
  if (const auto switches = switches_of(plan.run.train.compat); !switches.empty())
    log.note("compat: rules of InternEvo for " + compat_text(switches));
  log.note("memory estimate per rank\n" + memory_text(plan));
  if (!plan.seat.note.empty()) log.note(plan.seat.note);
  for (const std::string& notice : facts.notices) log.warning("start", notice);
  for (const std::string& notice : plan.model.notices) log.note(notice);
  if (plan.run.faults)
    log.warning("faults", "this run breaks itself on purpose: the faults section is present");
  if (facts.resume) warn_of_differences(log, *facts.resume, plan);
  warn_of_masked_packs(log, plan);
  show_first_pack(log, plan);
}

void report_end(RunLog& log, Session& session, const Trainer& trainer, EndReason reason) {
  log.note("memory peak per rank\n" + session.runtime().allocator().report().table());
  log.end({.step = trainer.step(),
           .final_loss = trainer.last_loss(),
           .elapsed = trainer.elapsed(),
           .total_tokens = trainer.tokens(),
           .reason = name_of(reason)});
}

void print_plan(const SessionPlan& plan, int world) {
  const RunLength length = run_length(plan);
  fmt::print("model    {}\n         {} parameters\n", model_text(plan),
             parameter_count(plan.model.options));
  fmt::print("data     {}\n", data_text(plan, length));
  fmt::print("device   {}{}\n", plan.seat.text(),
             plan.seat.note.empty() ? "" : " (" + plan.seat.note + ")");
  fmt::print("layout   {} rank(s): {}\n", world, layout_text(plan));
  fmt::print("steps    {} of {}{} tokens\n", plan.total_steps,
             plan.run.data.packing ? "" : "about ", length.tokens_per_step);
  if (const auto switches = switches_of(plan.run.train.compat); !switches.empty())
    fmt::print("compat   {}\n", compat_text(switches));
  fmt::print("run dir  {}\n", plan.run.checkpoint.dir);
  fmt::print("memory per rank (estimate)\n{}", memory_text(plan));
  fmt::print("disk per save (estimate)\n  {:.1f} MiB\n",
             static_cast<double>(save_estimate(plan)) / (1 << 20));
  require_memory(plan);
}

void require_memory(const SessionPlan& plan) {
  const std::optional<int64_t> available = available_memory(plan);
  const int64_t needed = estimate_memory(plan).states();
  if (!available || needed <= *available) return;
  throw Error(ExitCode::kOutOfMemory,
              plan.run.train.memory_limit ? "train.memory_limit" : "memory of the device",
              fmt::format("expected {} bytes for weights, gradients and optimizer, got {}", needed,
                          *available),
              memory_levers(plan.model, plan.run, *available));
}

uint64_t save_estimate(const SessionPlan& plan) {
  const MemoryEstimate e = estimate_memory(plan);
  const int64_t hf = plan.run.checkpoint.hf == HfExport::kNever ? 0 : e.weights;
  return static_cast<uint64_t>(e.weights + e.optimizer + hf) + (uint64_t{1} << 20);
}

}  // namespace ink
