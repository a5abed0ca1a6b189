#include "launch/doctor/probes.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "configs/schema/run_file.h"
#include "configs/schema/yaml_reader.h"
#include "engine/core/parallel_for.h"
#include "engine/kernels/kernel.h"
#include "launch/kernel_choices.h"
#include "launch/trainer/session.h"
#include "models/generate/generator.h"
#include "parallel/comm/self_group.h"

namespace ink {
namespace {

constexpr int64_t kCopyBytes = int64_t{128} << 20;  // beyond the caches of a core
constexpr int kCopyRepeats = 5;

constexpr const char* kTinyRun = R"(
model: {family: internlm2, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2,
  num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 256, max_position_embeddings: 128,
  rms_norm_eps: 1.0e-5, rope_theta: 10000, dropout: 0.1}
data: {train: [{synthetic: {documents: 8, length: 64}}], max_length: 128}
train: {steps: 1}
checkpoint: {dir: doctor}
)";

// What has run since; a slot that is noted keeps its first candidate.
void note_candidates(Device device, DType compute, std::vector<KernelUse>& uses) {
  const std::vector<KernelSlotBase*> slots = KernelSlotBase::all();
  for (size_t i = 0; i < slots.size(); ++i) {
    if (const char* label = slots[i]->last_label(device))
      uses[i].ran.try_emplace(std::string(name_of(compute)), label);
  }
}

// Training comes first: generation runs some slots on a few rows, where others win.
void one_step_and_tokens(const DeviceSeat& seat, DType compute, std::vector<KernelUse>& uses) {
  ConfigNode tree = parse_yaml(kTinyRun, "doctor");
  apply_override(tree, compute == DType::kF32 ? "model.dtype=fp32" : "model.dtype=bf16");
  const auto group = make_self_group();
  SessionPlan plan = plan_session(read_run(tree), 1, seat, {}, {});
  auto device = std::make_unique<RankDevice>(plan.run, seat);
  Session session(std::move(plan), *group, std::move(device));
  static_cast<void>(session.start_fresh());
  Loader loader(session.plan().data.train, session.loader_options());
  const std::optional<StepBatch> batch = loader.next();
  CHECK(batch.has_value(), "synthetic data has no step");
  static_cast<void>(session.step().run(batch->micro_batches, batch->trained, batch->step));
  note_candidates(seat.device, compute, uses);
  const std::vector<int32_t> prompt{1, 2, 3};
  static_cast<void>(generate(session.runtime(), session.model().decoder(), prompt,
                             {.max_new_tokens = 2, .temperature = 0}));
  note_candidates(seat.device, compute, uses);
  for (const KernelRefusal& refusal : new_refusals(session.runtime())) {
    const auto use = std::ranges::find(uses, refusal.slot, &KernelUse::slot);
    if (use != uses.end()) use->refused.push_back(refusal_text(refusal, seat.device));
  }
}

double copy_on_card(Runtime& runtime, const DeviceSeat& seat) {
  constexpr int64_t kLargest = int64_t{1} << 30;
  const int64_t bytes = std::min(kLargest, seat.card->memory / 16);
  const Tensor from(runtime, {bytes}, DType::kU8, MemoryTag::kWorkspace);
  const Tensor to(runtime, {bytes}, DType::kU8, MemoryTag::kWorkspace);
  runtime.backend().zero(from.raw(), bytes);
  double best = 0;
  for (int repeat = 0; repeat <= kCopyRepeats; ++repeat) {
    runtime.backend().synchronize();
    const auto start = std::chrono::steady_clock::now();
    runtime.backend().copy(to.raw(), from.raw(), bytes);
    runtime.backend().synchronize();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (repeat > 0) best = std::max(best, 2.0 * static_cast<double>(bytes) / took.count());
  }
  return best;
}

}  // namespace

double copy_bandwidth(Runtime& runtime, const DeviceSeat& seat) {
  if (seat.card) return copy_on_card(runtime, seat);
  const Tensor from(runtime, {kCopyBytes}, DType::kU8, MemoryTag::kWorkspace);
  const Tensor to(runtime, {kCopyBytes}, DType::kU8, MemoryTag::kWorkspace);
  auto* source = static_cast<char*>(from.raw());
  auto* target = static_cast<char*>(to.raw());
  const int threads = thread_count();
  const int64_t part = kCopyBytes / threads;
  double best = 0;
  for (int repeat = 0; repeat <= kCopyRepeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; ++t) {
      // The first round pages the memory in, on the threads that use it.
      if (repeat == 0) std::memset(source + t * part, t, static_cast<size_t>(part));
      std::memcpy(target + t * part, source + t * part, static_cast<size_t>(part));
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (repeat > 0) best = std::max(best, 2.0 * static_cast<double>(part * threads) / took.count());
  }
  return best;
}

std::vector<KernelUse> kernels_in_use(const DeviceSeat& seat) {
  std::vector<KernelUse> all;
  for (KernelSlotBase* slot : KernelSlotBase::all()) {
    KernelUse use{.slot = slot->name(), .candidates = {}, .ran = {}, .refused = {}};
    for (const std::string_view label : slot->labels(seat.device))
      use.candidates.emplace_back(label);
    all.push_back(std::move(use));
  }
  for (const DType compute : {DType::kF32, DType::kBF16}) one_step_and_tokens(seat, compute, all);
  return all;
}

}  // namespace ink
