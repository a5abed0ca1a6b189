// A small model as a run trains it, and the memory that its steps and an evaluation take, beside
// the estimate of it. Uses the device that the case names.
#pragma once

#include "launch/trainer/memory_estimate.h"
#include "launch/trainer/train_step.h"
#include "models/family.h"
#include "parallel/comm/self_group.h"

namespace ink {

struct MemoryCase {
  const char* name;
  DType compute = DType::kF32;
  StateDtype states = StateDtype::kF32;
  RecomputeMode mode = RecomputeMode::kNone;
  Recompute recompute = Recompute::kNone;
  int64_t layers = 4, micro_batches = 1;
  bool tied = false;
  StateDtype gradients = StateDtype::kF32;
  int64_t vocabulary = 5000;
  int32_t tokens = 768;  // of a micro-batch, one document
  Device device = Device::kCpu;
  bool graphs = true;  // on a device that records
  // Called with the runtime before anything is in it.
  void (*prepare)(Runtime&) = [](Runtime&) {};
};

inline ModelOptions model_of(const MemoryCase& c) {
  ModelOptions m;
  m.family = Family::kInternLM2;
  m.hidden_size = 256;
  m.intermediate_size = 704;
  m.num_hidden_layers = c.layers;
  m.num_attention_heads = 8;
  m.num_key_value_heads = 2;
  m.head_dim = 32;
  m.vocab_size = c.vocabulary;
  m.max_position_embeddings = 1024;
  m.rms_norm_eps = 1e-5;
  m.rope_theta = 10000;
  m.tie_word_embeddings = c.tied;
  return m;
}

inline HostBatch batch_of(const MemoryCase& c) {
  HostBatch batch;
  const auto vocabulary = static_cast<int32_t>(c.vocabulary);
  for (int32_t i = 0; i < c.tokens; ++i) {
    batch.tokens.push_back(i % vocabulary);
    batch.labels.push_back((i + 1) % vocabulary);
    batch.positions.push_back(i);
    batch.token_ids.push_back(i);
    batch.documents.push_back(0);
  }
  batch.cu_seqlens = {0, c.tokens};
  batch.max_seqlen = c.tokens;
  batch.source_ids = {0};
  batch.sample_ids = {0};
  batch.trained = c.tokens;
  return batch;
}

struct MemoryOfRun {
  MemoryEstimate estimate;
  MemoryReport trained, evaluated;  // peaks since the first step
};

// Two steps, the second one recorded, then an evaluation of one micro-batch.
inline MemoryOfRun memory_of(const MemoryCase& c) {
  RunOptions run;
  run.train.recompute = c.mode;
  run.train.micro_batch_size = 1;
  run.train.accumulation = c.micro_batches;
  run.train.cuda_graph = c.graphs;
  run.data.max_length = c.tokens;
  run.optim.state_dtype = c.states;
  run.optim.grad_dtype = c.gradients;
  const ModelPlan plan{.options = model_of(c), .compute = c.compute, .device = c.device};
  MemoryOfRun memory{.estimate = estimate_memory(plan, run), .trained = {}, .evaluated = {}};

  Runtime runtime({}, make_backend(c.device));
  c.prepare(runtime);
  runtime.recompute = c.recompute;
  ParameterTable table;
  SerialBuilder builder(table);
  const std::unique_ptr<Decoder> model = make_model(builder, plan.options);
  table.materialize(runtime, c.compute,
                    c.gradients == StateDtype::kBf16 ? DType::kBF16 : DType::kF32);
  table.initialize(1);
  AdamW optimizer(runtime, table, run.optim, 10, 1);
  optimizer.initialize_masters(1);
  const std::unique_ptr<ProcessGroup> group = make_self_group();
  TrainStep step(runtime, *model, table, optimizer, *group,
                 {.graphs = c.graphs, .max_length = c.tokens});
  const HostBatch batch = batch_of(c);
  const std::vector<HostBatch> batches(static_cast<size_t>(c.micro_batches), batch);
  runtime.allocator().reset_peaks();
  for (int64_t i = 1; i <= 2; ++i)
    static_cast<void>(step.run(batches, c.tokens * c.micro_batches, i));
  memory.trained = runtime.allocator().report();
  static_cast<void>(step.evaluate(
      1, [&](int64_t) { return batch; }, batch.trained));
  memory.evaluated = runtime.allocator().report();
  return memory;
}

}  // namespace ink
