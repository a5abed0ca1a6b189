#include "launch/trainer/memory_estimate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "engine/ops/lm_loss.h"

namespace ink {
namespace {

double mib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// A setting and the run with it.
struct Lever {
  std::string setting;
  RunOptions run;
};

RunOptions with_recompute(RunOptions run, RecomputeMode mode) {
  run.train.recompute = mode;
  return run;
}

// The global batch stays what it is: where the run file counts micro-batches, it counts more of
// them.
Lever with_micro_batch(RunOptions run, int64_t size) {
  std::string setting = fmt::format("train.micro_batch_size: {}", size);
  if (run.train.accumulation) {
    run.train.accumulation = *run.train.accumulation * (run.train.micro_batch_size / size);
    setting += fmt::format(" with train.accumulation: {}", *run.train.accumulation);
  }
  run.train.micro_batch_size = size;
  return {setting, std::move(run)};
}

RunOptions with_narrow_states(RunOptions run) {
  run.optim.state_dtype = StateDtype::kBf16;
  return run;
}

std::vector<Lever> single_levers(const RunOptions& run) {
  std::vector<Lever> levers;
  if (run.train.recompute == RecomputeMode::kNone)
    levers.push_back(
        {"train.recompute: selective", with_recompute(run, RecomputeMode::kSelective)});
  if (run.train.recompute != RecomputeMode::kFull)
    levers.push_back({"train.recompute: full", with_recompute(run, RecomputeMode::kFull)});
  for (int64_t size = run.train.micro_batch_size / 2; size >= 1; size /= 2) {
    if (run.train.micro_batch_size % size == 0) levers.push_back(with_micro_batch(run, size));
  }
  if (run.optim.state_dtype != StateDtype::kBf16)
    levers.push_back({"optim.state_dtype: bf16", with_narrow_states(run)});
  return levers;
}

// Everything at once.
Lever all_levers(const RunOptions& run) {
  Lever all{"", run};
  const auto add = [&](const std::string& setting) {
    all.setting += (all.setting.empty() ? "" : ", ") + setting;
  };
  if (run.train.recompute != RecomputeMode::kFull) {
    all.run = with_recompute(all.run, RecomputeMode::kFull);
    add("train.recompute: full");
  }
  if (run.train.micro_batch_size > 1) {
    Lever smaller = with_micro_batch(all.run, 1);
    add(smaller.setting);
    all.run = std::move(smaller.run);
  }
  if (run.optim.state_dtype != StateDtype::kBf16) {
    all.run = with_narrow_states(all.run);
    add("optim.state_dtype: bf16");
  }
  return all;
}

// Bytes that a layer keeps per token. Always: its input and wo's input, qkv, gate and up, the
// log-sum-exp; cheap to rebuild: the two norms and the product of gate and up.
struct LayerBytes {
  int64_t always = 0, cheap = 0;
};

LayerBytes layer_bytes(const ModelOptions& m, int64_t width) {
  const int64_t h = m.hidden_size, f = m.intermediate_size;
  const int64_t q = m.num_attention_heads * m.head_dim, kv = m.num_key_value_heads * m.head_dim;
  return {.always = (2 * h + 2 * q + 2 * kv + 2 * f) * width + 4 * m.num_attention_heads + 8,
          .cheap = (2 * h + f) * width};
}

}  // namespace

MemoryEstimate estimate_memory(const ModelPlan& model, const RunOptions& run) {
  const ModelOptions& m = model.options;
  const int64_t parameters = parameter_count(m), width = size_of(model.compute);
  const bool narrow_states = run.optim.state_dtype == StateDtype::kBf16;
  const int64_t tokens = run.train.micro_batch_size * run.data.max_length;
  MemoryEstimate e;
  e.weights = parameters * width;
  e.gradients = parameters * 4;
  e.optimizer = parameters * (narrow_states ? 4 : 8 + (width < 4 ? 4 : 0));
  // Full recompute keeps the input of every block, and one block at a time.
  const LayerBytes layer = layer_bytes(m, width);
  const int64_t layers = m.num_hidden_layers, input = m.hidden_size * width;
  switch (run.train.recompute) {
    case RecomputeMode::kNone:
      e.activations = tokens * (layer.always + layer.cheap) * layers;
      break;
    case RecomputeMode::kSelective:
      e.activations = tokens * (layer.always * layers + layer.cheap);
      break;
    case RecomputeMode::kFull:
      e.activations = tokens * (input * layers + layer.always + layer.cheap);
      break;
  }
  e.activations += tokens * (3 * input + 32);
  // A chunk of logits in f32, and its gradient where that is narrower.
  const int64_t chunk = std::min(LmLossOptions{}.chunk_bytes, tokens * m.vocab_size * 4);
  e.workspace = chunk + (width < 4 ? chunk * width / 4 : 0);
  return e;
}

std::string MemoryEstimate::table() const {
  const auto row = [](const char* name, int64_t bytes) {
    return fmt::format("  {:<12} {:>9.1f} MiB\n", name, mib(bytes));
  };
  return row("weights", weights) + row("gradients", gradients) + row("optimizer", optimizer) +
         row("activations", activations) + row("workspace", workspace) + row("total", total());
}

std::string memory_levers(const ModelPlan& model, const RunOptions& run, int64_t available,
                          int64_t beyond) {
  const auto needed = [&](const Lever& lever) {
    return estimate_memory(model, lever.run).total() + beyond;
  };
  std::vector<std::string> enough;
  for (const Lever& lever : single_levers(run)) {
    const int64_t bytes = needed(lever);
    if (bytes <= available)
      enough.push_back(fmt::format("{} ({:.1f} MiB)", lever.setting, mib(bytes)));
  }
  const std::string room = fmt::format("of {:.1f} MiB", mib(available));
  if (!enough.empty())
    return fmt::format("by the estimate each of these fits, cheapest first, {}: {}", room,
                       fmt::join(enough, "; "));
  const Lever all = all_levers(run);
  if (!all.setting.empty() && needed(all) <= available)
    return fmt::format("by the estimate these fit together, {}: {} ({:.1f} MiB)", room, all.setting,
                       mib(needed(all)));
  return fmt::format(
      "recompute, smaller micro-batches and bf16 states are not enough: {:.1f} MiB {}; take a "
      "shorter data.max_length, a smaller model or more memory",
      mib(needed(all)), room);
}

}  // namespace ink
