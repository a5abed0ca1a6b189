// A training run on one rank, wired together: model, optimizer, data, step. Built in an order that
// finds cheap mistakes before expensive work, then handed to the trainer.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "configs/schema/run_file.h"
#include "data/loader/data_set.h"
#include "launch/device_choice.h"
#include "launch/model_instance.h"
#include "launch/rendezvous/rendezvous.h"
#include "launch/trainer/memory_estimate.h"
#include "launch/trainer/rank_device.h"
#include "launch/trainer/train_step.h"
#include "optim/checkpoint/find.h"
#include "parallel/mesh/mesh.h"

namespace ink {

// What is known before anything is allocated: the shape of the run. `train --dry-run` stops here.
struct SessionPlan {
  RunOptions run;
  DeviceSeat seat;
  bool allow_data_change = false;
  Places places;
  ModelPlan model;
  MeshShape mesh;
  DataSet data;
  BatchPlan batches;
  int64_t total_steps = 0;             // T
  int64_t accumulation = 1;            // micro-batches per step and rank
  std::optional<int64_t> total_packs;  // length of the run in packs, when it is given in epochs
  std::shared_ptr<const Tokenizer> tokenizer;
};

// Checks that the user lifts by name; every one that is used leaves a line in the log.
struct SessionFlags {
  ImportOptions import;
  bool allow_data_change = false;  // resume although the data are not those of the save
};

// Reads headers, tokenises text into the cache where it has to. world: number of ranks.
[[nodiscard]] SessionPlan plan_session(const LoadedRun& loaded, int world, const DeviceSeat& seat,
                                       const SessionFlags& flags,
                                       const std::function<void(const PrepareProgress&)>& progress);

[[nodiscard]] inline MemoryEstimate estimate_memory(const SessionPlan& plan) {
  return estimate_memory(plan.model, plan.run, plan.mesh.data);
}

class Session {
 public:
  Session(SessionPlan plan, ProcessGroup& world, std::unique_ptr<RankDevice> device);

  // Random weights or an import; masters follow. Returns lines for the log.
  std::vector<std::string> start_fresh();
  // Weights, optimizer and counters of a checkpoint; returns its trainer section.
  nlohmann::json restore(const OpenedCheckpoint& checkpoint);

  [[nodiscard]] SessionPlan& plan() { return plan_; }
  [[nodiscard]] Runtime& runtime() { return runtime_; }
  [[nodiscard]] ModelInstance& model() { return model_; }
  [[nodiscard]] AdamW& optimizer() { return optimizer_; }
  [[nodiscard]] TrainStep& step() { return step_; }
  [[nodiscard]] ProcessGroup& world() { return world_; }
  [[nodiscard]] LoaderOptions loader_options() const;

 private:
  SessionPlan plan_;
  ProcessGroup& world_;
  std::unique_ptr<RankDevice> device_;
  Runtime& runtime_;
  ModelInstance model_;
  AdamW optimizer_;
  TrainStep step_;
};

}  // namespace ink
