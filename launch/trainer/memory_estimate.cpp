#include "launch/trainer/memory_estimate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "configs/schema/validate.h"
#include "engine/ops/lm_loss.h"
#include "engine/ops/lm_loss_chunk.h"
#include "optim/policy/gradient_type.h"

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

RunOptions with_narrow_gradients(RunOptions run) {
  run.optim.grad_dtype = StateDtype::kBf16;
  return run;
}

// Could they be bf16, and are not?
bool gradients_may_be_narrow(const ModelPlan& model, const RunOptions& run) {
  return model.compute == DType::kBF16 && run.optim.grad_dtype != StateDtype::kBf16 &&
         narrow_additions(plan_batch(run, 1).accumulation, 1) <= kMostNarrowAdditions;
}

RunOptions without_graphs(RunOptions run) {
  run.train.cuda_graph = false;
  return run;
}

// Do gradients stay from step to step for the sake of the graphs alone?
bool graphs_keep_gradients(const ModelPlan& model, const RunOptions& run) {
  return model.device == Device::kCuda && run.train.cuda_graph &&
         plan_batch(run, 1).accumulation == 1;
}

std::vector<Lever> single_levers(const ModelPlan& model, const RunOptions& run) {
  std::vector<Lever> levers;
  if (run.train.recompute == RecomputeMode::kNone)
    levers.push_back(
        {"train.recompute: selective", with_recompute(run, RecomputeMode::kSelective)});
  if (run.train.recompute != RecomputeMode::kFull)
    levers.push_back({"train.recompute: full", with_recompute(run, RecomputeMode::kFull)});
  for (int64_t size = run.train.micro_batch_size / 2; size >= 1; size /= 2) {
    if (run.train.micro_batch_size % size == 0) levers.push_back(with_micro_batch(run, size));
  }
  if (graphs_keep_gradients(model, run))
    levers.push_back({"train.cuda_graph: false", without_graphs(run)});
  if (run.optim.state_dtype != StateDtype::kBf16)
    levers.push_back({"optim.state_dtype: bf16", with_narrow_states(run)});
  if (gradients_may_be_narrow(model, run))
    levers.push_back({"optim.grad_dtype: bf16", with_narrow_gradients(run)});
  return levers;
}

// Everything at once.
Lever all_levers(const ModelPlan& model, const RunOptions& run) {
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
  if (gradients_may_be_narrow(model, all.run)) {
    all.run = with_narrow_gradients(all.run);
    add("optim.grad_dtype: bf16");
  }
  if (graphs_keep_gradients(model, all.run)) {
    all.run = without_graphs(all.run);
    add("train.cuda_graph: false");
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

// Bytes per token of what forward keeps and backward makes, as the recompute policy has it.
struct ActivationBytes {
  int64_t layer = 0;     // kept by a layer until its backward
  int64_t head = 0;      // beside the layers while the loss runs
  int64_t backward = 0;  // in the MLP of a layer, beside what all layers keep
};

ActivationBytes activation_bytes(const ModelOptions& m, int64_t width, RecomputeMode mode) {
  const LayerBytes layer = layer_bytes(m, width);
  const int64_t h = m.hidden_size * width, f = m.intermediate_size * width;
  switch (mode) {
    case RecomputeMode::kNone:  // the last residual and its norm, the last delta, dx
      return {.layer = layer.always + layer.cheap, .head = 4 * h, .backward = 2 * h};
    case RecomputeMode::kSelective:  // the SwiGLU's gradient, or w3's with the norm that it reads
      return {.layer = layer.always, .head = 4 * h, .backward = std::max(f + h, 3 * h)};
    case RecomputeMode::kFull:  // a block runs again while its input is kept
      return {.layer = h, .head = 3 * h, .backward = layer.always + layer.cheap + 2 * h};
  }
  throw InternalError("unknown recompute mode");
}

// Gradients of the parts that the order of backward tells apart, bytes.
struct GradientBytes {
  int64_t all = 0, head = 0, embedding = 0, layer = 0, w2 = 0;
};

// Norms and biases have f32 gradients whatever those of the matrices.
GradientBytes gradient_bytes(const ModelOptions& m, bool narrow) {
  const int64_t width = narrow ? 2 : 4, table = m.vocab_size * m.hidden_size;
  const int64_t matrices = matmul_parameter_count(m) + (m.tie_word_embeddings ? 0 : table);
  GradientBytes g{.all = matrices * width + (parameter_count(m) - matrices) * 4,
                  .head = table * width,
                  .w2 = m.intermediate_size * m.hidden_size * width};
  g.embedding = m.tie_word_embeddings ? 0 : g.head;
  g.layer = (g.all - g.head - g.embedding) / std::max<int64_t>(1, m.num_hidden_layers);
  return g;
}

// Operands that the packed GEMM of the processor widens, a block of each at a time; oneDNN takes
// f32 as it lies.
int64_t gemm_bytes(const ModelPlan& model) {
  const bool packs = model.device == Device::kCpu && size_of(model.compute) < 4;
  return packs ? int64_t{5} << 20 : 0;
}

// Gradients that stay from step to step: buckets of several ranks, sums of several micro-batches,
// addresses in a CUDA graph.
bool gradients_stay(const ModelPlan& model, const RunOptions& run, int64_t data_parallel) {
  return data_parallel > 1 || (model.device == Device::kCuda && run.train.cuda_graph) ||
         plan_batch(run, data_parallel).accumulation > 1;
}

// What the loss works in.
int64_t loss_bytes(const ModelPlan& model, int64_t tokens, bool narrow_gradients) {
  const ModelOptions& m = model.options;
  const LossShape shape{.rows = tokens,
                        .vocabulary = m.vocab_size,
                        .width = m.hidden_size,
                        .dlogits = model.compute,
                        .dw = narrow_gradients ? DType::kBF16 : DType::kF32};
  return loss_rows(shape, model.device, loss_chunk_bytes(model.device)).bytes(shape);
}

}  // namespace

MemoryEstimate estimate_memory(const ModelPlan& model, const RunOptions& run,
                               int64_t data_parallel) {
  const ModelOptions& m = model.options;
  const int64_t parameters = parameter_count(m), width = size_of(model.compute);
  const bool narrow_states = run.optim.state_dtype == StateDtype::kBf16;
  const int64_t tokens = run.train.micro_batch_size * run.data.max_length;
  const int64_t layers = m.num_hidden_layers;
  const bool narrow_gradients =
      run.optim.grad_dtype == StateDtype::kBf16 && model.compute == DType::kBF16;
  const GradientBytes g = gradient_bytes(m, narrow_gradients);
  const ActivationBytes a = activation_bytes(m, width, run.train.recompute);
  // The table of angles, the batch itself, and a loss, a hit and a norm for each token.
  const int64_t fixed = tokens * (4 * m.head_dim + 48);
  const int64_t gemm = gemm_bytes(model);

  MemoryEstimate e{
      .weights = parameters * width,
      .gradients = g.all,
      .optimizer = parameters * (narrow_states ? 4 : 8 + (width < 4 ? 4 : 0)),
      .activations = tokens * (a.layer * layers + std::max(a.head, a.backward)) + fixed,
      .workspace = loss_bytes(model, tokens, narrow_gradients) + gemm};
  const bool stay = gradients_stay(model, run, data_parallel);
  const auto with = [&](int64_t gradients, int64_t rest) {
    return (stay ? g.all : gradients) + rest + fixed;
  };
  // The loss; backward at the last layer, at the first, at the embedding.
  e.peak =
      e.weights + e.optimizer +
      std::max({with(g.head, tokens * (a.layer * layers + a.head) + e.workspace),
                with(g.head + g.w2, tokens * (a.layer * layers + a.backward) + gemm),
                with(g.all - g.embedding - g.layer + g.w2, tokens * (a.layer + a.backward) + gemm),
                with(g.all, tokens * m.hidden_size * width)});
  return e;
}

std::string MemoryEstimate::table() const {
  const auto row = [](const char* name, int64_t bytes) {
    return fmt::format("  {:<12} {:>9.1f} MiB\n", name, mib(bytes));
  };
  return row("weights", weights) + row("gradients", gradients) + row("optimizer", optimizer) +
         row("activations", activations) + row("workspace", workspace) + row("at once", total());
}

std::string memory_levers(const ModelPlan& model, const RunOptions& run, int64_t available,
                          int64_t beyond) {
  const auto needed = [&](const Lever& lever) {
    return estimate_memory(model, lever.run).total() + beyond;
  };
  std::vector<std::string> enough;
  for (const Lever& lever : single_levers(model, run)) {
    const int64_t bytes = needed(lever);
    if (bytes <= available)
      enough.push_back(fmt::format("{} ({:.1f} MiB)", lever.setting, mib(bytes)));
  }
  const std::string room = fmt::format("of {:.1f} MiB", mib(available));
  if (!enough.empty())
    return fmt::format("by the estimate each of these fits, cheapest first, {}: {}", room,
                       fmt::join(enough, "; "));
  const Lever all = all_levers(model, run);
  if (!all.setting.empty() && needed(all) <= available)
    return fmt::format("by the estimate these fit together, {}: {} ({:.1f} MiB)", room, all.setting,
                       mib(needed(all)));
  return fmt::format(
      "recompute, smaller micro-batches and bf16 states are not enough: {:.1f} MiB {}; take a "
      "shorter data.max_length, a smaller model or more memory",
      mib(needed(all)), room);
}

}  // namespace ink
