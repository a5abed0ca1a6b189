// A whole run as typed values: what a run file, its bases and the command line say together.
//
// Made by load_run() (run_file.h), checked by validate(), written back by dump_run(). Every part of
// the program receives its section; nothing below configs/ sees YAML.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/data_options.h"
#include "configs/schema/field.h"
#include "configs/schema/model_keys.h"
#include "configs/schema/optim_options.h"
#include "configs/schema/train_options.h"

namespace ink {

struct ParallelSection {
  int64_t tensor = 1, pipeline = 1, sequence = 1, ring = 1, expert = 1, weight = 1;
  int64_t zero = 0;
  int64_t timeout = 600;

  template <class V>
  void fields(V& v) {
    v.field("tensor", tensor, "ranks that share each matrix", at_least(1));
    v.field("pipeline", pipeline, "stages", at_least(1));
    v.field("sequence", sequence, "ranks that share a sequence, head-parallel", at_least(1));
    v.field("ring", ring, "ranks that share a sequence, ring attention", at_least(1));
    v.field("expert", expert, "ranks that share the experts", at_least(1));
    v.field("weight", weight, "ranks that share the weights, gathered as needed", at_least(1));
    v.field("zero", zero, "ZeRO stage", between(0, 3));
    v.field("timeout", timeout,
            "seconds that a rank waits for the others in one call before the run ends with 6",
            between(1, 86'400));
  }
  friend bool operator==(const ParallelSection&, const ParallelSection&) = default;
};

enum class HfExport { kLast, kAlways, kNever };

template <>
struct Choices<HfExport> {
  static constexpr Choice<HfExport> kBuilt[] = {
      {"last", HfExport::kLast}, {"always", HfExport::kAlways}, {"never", HfExport::kNever}};
};

enum class BestBy { kEvalLoss };

template <>
struct Choices<BestBy> {
  static constexpr Choice<BestBy> kBuilt[] = {{"eval_loss", BestBy::kEvalLoss}};
};

struct CheckpointSection {
  std::string dir;
  int64_t every = 500;
  int64_t keep = 3;
  std::optional<BestBy> keep_best;
  HfExport hf = HfExport::kLast;
  bool async = true;
  std::optional<std::string> resume;

  template <class V>
  void fields(V& v) {
    v.field("dir", dir, "the run directory; unset = runs/NAME for NAME.yaml");
    v.field("every", every, "steps between two saves; the end of the run is always saved",
            at_least(1));
    v.field("keep", keep, "newest saves that are kept", at_least(1));
    v.field("keep_best", keep_best,
            "save whenever an evaluation is the best so far, and keep that save beside the newest; "
            "unset = no");
    v.field("hf", hf, "which saves also hold full weights in Hugging Face form");
    v.field("async", async, "write in the background");
    v.field("resume", resume, "latest, a run directory or a step-N; unset = a fresh start");
  }
  friend bool operator==(const CheckpointSection&, const CheckpointSection&) = default;
};

struct SampleOptions {
  int64_t every = 0;
  std::vector<std::string> prompts;
  int64_t max_new_tokens = 50;

  template <class V>
  void fields(V& v) {
    v.field("every", every, "steps between two samples; 0 = none", at_least(0));
    v.field("prompts", prompts, "texts to continue");
    v.field("max_new_tokens", max_new_tokens, "longest continuation", at_least(1));
  }
  friend bool operator==(const SampleOptions&, const SampleOptions&) = default;
};

struct LogSection {
  int64_t every = 10;
  bool tensorboard = true;
  bool plot = true;
  SampleOptions samples;
  bool reference_tflops = false;

  template <class V>
  void fields(V& v) {
    v.field("every", every, "steps between two log lines; metrics.jsonl has every step",
            at_least(1));
    v.field("tensorboard", tensorboard, "event files in tb/");
    v.field("plot", plot, "loss.svg and report.html");
    v.field("samples", samples, "text generated while training");
    v.field("reference_tflops", reference_tflops,
            "also print InternEvo's TFLOPS, which count full attention and recomputation");
  }
  friend bool operator==(const LogSection&, const LogSection&) = default;
};

struct RunOptions {
  ModelSection model;
  DataSection data;
  OptimSection optim;
  TrainSection train;
  ParallelSection parallel;
  CheckpointSection checkpoint;
  LogSection log;
  std::map<std::string, std::string> kernels;
  std::optional<FaultSection> faults;

  template <class V>
  void fields(V& v) {
    v.field("model", model, "what is trained");
    v.field("data", data, "on which text");
    v.field("optim", optim, "by which rule");
    v.field("train", train, "for how long and in which batches");
    v.field("parallel", parallel, "over which ranks; what is left of them is data parallel");
    v.field("checkpoint", checkpoint, "saved where and how often");
    v.field("log", log, "shown how");
    v.field("kernels", kernels,
            "kernel candidate by slot, such as {linear_forward: plain}; others choose themselves");
    v.field("faults", faults, "deliberate faults for tests; unset = none");
  }
  friend bool operator==(const RunOptions&, const RunOptions&) = default;
};

}  // namespace ink
