#include "configs/schema/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "configs/schema/validate_compat.h"
#include "engine/core/error.h"

namespace ink {
namespace {

// Far above any run; sums and products of these still fit 64 bits, and places in a micro-batch 32.
constexpr int64_t kMostPacks = 1 << 20;  // of one step
constexpr int64_t kMostSteps = int64_t{1} << 40;
constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostWidth = 1 << 24, kMostHeads = 1 << 10, kMostLayers = 1 << 10;

class Checker {
 public:
  Checker(const RunOptions& run, const Places& places) : run_(run), places_(places) {}

  void all() const {
    sizes();
    length();
    sources();
    evaluation();
    schedule();
    batch();
    parallel();
    logging();
    if (!run_.model.path) model();
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(const std::string& key, fmt::format_string<Args...> text,
                           Args&&... args) const {
    throw Error(ExitCode::kConfig, places_.of(key),
                fmt::format("{}: {}", key, fmt::format(text, std::forward<Args>(args)...)));
  }

  // Two keys of which one must be dropped.
  void exclusive(const std::string& key, bool is_set, const std::string& other,
                 bool other_is_set) const {
    if (!is_set || !other_is_set) return;
    throw Error(ExitCode::kConfig, places_.of(key),
                fmt::format("{}: expected this or {}, got both", key, other),
                fmt::format("a value from a base is dropped by {}: null", key));
  }

  void at_most(const std::string& key, std::optional<int64_t> value, int64_t most) const {
    if (value && *value > most) refuse(key, "expected at most {}, got {}", most, *value);
  }

  void sizes() const {
    const ModelSection& m = run_.model;
    at_most("model.hidden_size", m.hidden_size, kMostWidth);
    at_most("model.intermediate_size", m.intermediate_size, kMostWidth);
    at_most("model.num_hidden_layers", m.num_hidden_layers, kMostLayers);
    at_most("model.num_attention_heads", m.num_attention_heads, kMostHeads);
    at_most("model.num_key_value_heads", m.num_key_value_heads, kMostHeads);
    at_most("model.head_dim", m.head_dim, kMostWidth);
    at_most("model.vocab_size", m.vocab_size, kMostTokens);
    at_most("model.max_position_embeddings", m.max_position_embeddings, kMostTokens);
    const TrainSection& t = run_.train;
    at_most("train.steps", t.steps, kMostSteps);
    at_most("train.micro_batch_size", t.micro_batch_size, kMostPacks);
    at_most("train.accumulation", t.accumulation, kMostPacks);
    at_most("train.global_batch_size", t.global_batch_size, kMostPacks);
    at_most("data.max_length", run_.data.max_length, kMostTokens);
    if (t.micro_batch_size * run_.data.max_length > kMostTokens)
      refuse("train.micro_batch_size", "expected at most {} tokens in a micro-batch, got {} * {}",
             kMostTokens, t.micro_batch_size, run_.data.max_length);
    for (size_t i = 0; i < run_.data.train.size(); ++i) {
      const auto& synthetic = run_.data.train[i].synthetic;
      if (!synthetic) continue;
      const std::string key = fmt::format("data.train.{}.synthetic.", i);
      at_most(key + "documents", synthetic->documents, kMostTokens);
      at_most(key + "length", synthetic->length, kMostTokens);
    }
  }

  void length() const {
    const TrainSection& train = run_.train;
    exclusive("train.epochs", train.epochs.has_value(), "train.steps", train.steps.has_value());
    if (!train.epochs && !train.steps)
      refuse("train.steps", "expected this or train.epochs, got neither");
  }

  void sources() const {
    const auto& sources = run_.data.train;
    if (sources.empty()) refuse("data.train", "expected at least one source, got none");
    size_t weighted = 0;
    for (size_t i = 0; i < sources.size(); ++i) {
      const std::string key = fmt::format("data.train.{}", i);
      if (sources[i].path.has_value() == sources[i].synthetic.has_value())
        refuse(key, "expected path or synthetic, got {}", sources[i].path ? "both" : "neither");
      if (sources[i].path && sources[i].path->empty())
        refuse(key + ".path", "expected a file or folder, got an empty text");
      if (sources[i].weight) ++weighted;
    }
    if (weighted != 0 && weighted != sources.size())
      refuse("data.train", "expected a weight on every source or on none, got {} of {}", weighted,
             sources.size());
    if (weighted != 0 && run_.train.epochs)
      refuse("train.epochs", "expected train.steps where data.train has weights");
  }

  void evaluation() const {
    const EvalOptions& eval = run_.data.eval;
    exclusive("data.eval.path", eval.path.has_value(), "data.eval.fraction",
              eval.fraction.has_value());
    if (eval.path && eval.path->empty())
      refuse("data.eval.path", "expected a file or folder, got an empty text");
    std::set<std::string> names;
    for (size_t i = 0; i < eval.sets.size(); ++i) {
      const EvalSet& set = eval.sets[i];
      const std::string key = fmt::format("data.eval.{}", i);
      if (set.name.empty()) refuse(key + ".name", "expected a name, got none");
      if (set.path.empty()) refuse(key + ".path", "expected a file or folder, got none");
      if (!names.insert(set.name).second)
        refuse(key + ".name", "expected every name once, got {} twice", set.name);
    }
    const bool none = eval.sets.empty() && !eval.fraction && !eval.path;
    if (run_.train.eval_every && none)
      refuse("train.eval_every", "expected data.eval to say on what, got none");
    if (run_.checkpoint.keep_best && none)
      refuse("checkpoint.keep_best", "expected data.eval to say on what, got none");
  }

  void schedule() const {
    const OptimSection& optim = run_.optim;
    exclusive("optim.warmup_ratio", optim.warmup_ratio.has_value(), "optim.warmup_steps",
              optim.warmup_steps.has_value());
    if (optim.min_lr > optim.lr)
      refuse("optim.min_lr", "expected at most optim.lr {}, got {}", optim.lr, optim.min_lr);
    const bool wsd = optim.schedule == ScheduleType::kWsd;
    if (wsd && !optim.decay_steps)
      refuse("optim.decay_steps", "expected a value for wsd, got none");
    if (!wsd && optim.decay_steps)
      refuse("optim.decay_steps", "expected optim.schedule: wsd beside it, got another schedule");
    for (size_t i = 0; i < optim.groups.size(); ++i)
      if (optim.groups[i].match.empty())
        refuse(fmt::format("optim.groups.{}.match", i), "expected a pattern, got none");
    if (!run_.train.steps) return;
    const int64_t steps = *run_.train.steps;
    const int64_t warmup = optim.warmup_steps.value_or(
        static_cast<int64_t>(static_cast<double>(steps) * optim.warmup_ratio.value_or(0)));
    if (warmup > steps)
      refuse("optim.warmup_steps", "expected at most train.steps {}, got {}", steps, warmup);
    if (wsd && warmup + *optim.decay_steps > steps)
      refuse("optim.decay_steps", "expected warm-up {} + decay {} <= train.steps {}", warmup,
             *optim.decay_steps, steps);
  }

  void batch() const {
    const TrainSection& train = run_.train;
    exclusive("train.accumulation", train.accumulation.has_value(), "train.global_batch_size",
              train.global_batch_size.has_value());
    exclusive("train.accumulation", train.accumulation.has_value(), "train.global_batch_tokens",
              train.global_batch_tokens.has_value());
    exclusive("train.global_batch_tokens", train.global_batch_tokens.has_value(),
              "train.global_batch_size", train.global_batch_size.has_value());
    if (train.global_batch_tokens && !run_.data.packing)
      refuse("train.global_batch_tokens",
             "expected train.global_batch_size with data.packing: false, whose steps differ in "
             "tokens");
    if (train.batch_ramp && !train.global_batch_size && !train.global_batch_tokens)
      refuse("train.batch_ramp", "expected train.global_batch_size beside it, got none");
  }

  void parallel() const {
    const ParallelSection& p = run_.parallel;
    const std::pair<const char*, int64_t> axes[] = {
        {"tensor", p.tensor}, {"pipeline", p.pipeline}, {"sequence", p.sequence},
        {"ring", p.ring},     {"expert", p.expert},     {"weight", p.weight}};
    for (const auto& [name, size] : axes)
      if (size != 1)
        refuse(fmt::format("parallel.{}", name), "{} is not built yet; expected 1", size);
    if (p.zero != 0) refuse("parallel.zero", "{} is not built yet; expected 0", p.zero);
  }

  void logging() const {
    if (run_.log.samples.every > 0 && run_.log.samples.prompts.empty())
      refuse("log.samples.prompts", "expected at least one prompt, got none");
  }

  void model() const {
    const ModelOptions model = resolve_model(run_.model, places_);
    const int64_t length = run_.data.max_length;
    if (length > model.max_position_embeddings && !model.rope_scaling.in_training)
      refuse("data.max_length", "expected at most model.max_position_embeddings {}, got {}",
             model.max_position_embeddings, length);
  }

  const RunOptions& run_;
  const Places& places_;
};

// The key that carries the global batch, and its size in packs.
struct GlobalBatch {
  std::string key;
  int64_t size = 0;
  int64_t unit = 1;  // of the key's value, in packs: tokens per pack or 1
};

GlobalBatch asked_batch(const RunOptions& run, int64_t packs_per_pass, const Places& places) {
  const TrainSection& train = run.train;
  if (train.global_batch_size) return {"train.global_batch_size", *train.global_batch_size, 1};
  if (!train.global_batch_tokens)
    return {"train.accumulation", train.accumulation.value_or(1) * packs_per_pass, 1};
  const int64_t tokens = *train.global_batch_tokens, length = run.data.max_length;
  if (tokens % length != 0) {
    const int64_t under = tokens / length * length;
    throw Error(
        ExitCode::kConfig, places.of("train.global_batch_tokens"),
        fmt::format("train.global_batch_tokens: expected a multiple of data.max_length {}, "
                    "got {}; nearest: {}{}",
                    length, tokens, under > 0 ? fmt::format("{}, ", under) : "", under + length));
  }
  return {"train.global_batch_tokens", tokens / length, length};
}

void check_multiple(const std::string& key, int64_t packs, int64_t unit, const RunOptions& run,
                    int64_t data_parallel, const Places& places) {
  const int64_t pass = run.train.micro_batch_size * data_parallel;
  if (packs % pass == 0) return;
  const int64_t under = packs / pass * pass;
  throw Error(
      ExitCode::kConfig, places.of(key),
      fmt::format("{}: expected a multiple of micro_batch_size {} * {} data-parallel ranks{} = {}, "
                  "got {}; nearest: {}{}",
                  key, run.train.micro_batch_size, data_parallel,
                  unit == 1 ? "" : fmt::format(" * max_length {}", unit), pass * unit, packs * unit,
                  under > 0 ? fmt::format("{}, ", under * unit) : "", (under + pass) * unit));
}

void check_ramp(const RunOptions& run, int64_t final_size, int64_t data_parallel,
                const Places& places) {
  const BatchRamp& ramp = *run.train.batch_ramp;
  check_multiple("train.batch_ramp.start", ramp.start, 1, run, data_parallel, places);
  check_multiple("train.batch_ramp.increment", ramp.increment, 1, run, data_parallel, places);
  if (ramp.start <= final_size && (final_size - ramp.start) % ramp.increment == 0) return;
  throw Error(ExitCode::kConfig, places.of("train.batch_ramp"),
              fmt::format("train.batch_ramp: expected start + n * increment = the global batch {}, "
                          "got start {} and increment {}",
                          final_size, ramp.start, ramp.increment));
}

}  // namespace

void validate(const RunOptions& run, const Places& places) {
  Checker(run, places).all();
  check_compat(run, places);
}

BatchSizes plan_batch(const RunOptions& run, int64_t data_parallel, const Places& places) {
  CHECK(data_parallel >= 1, "data_parallel is {}", data_parallel);
  const int64_t pass = run.train.micro_batch_size * data_parallel;
  const GlobalBatch asked = asked_batch(run, pass, places);
  check_multiple(asked.key, asked.size, asked.unit, run, data_parallel, places);
  if (asked.size > kMostPacks)
    throw Error(ExitCode::kConfig, places.of(asked.key),
                fmt::format("{}: expected at most {} packs in a step, got {}", asked.key,
                            kMostPacks, asked.size));
  if (run.train.batch_ramp) check_ramp(run, asked.size, data_parallel, places);
  return {.global_batch_size = asked.size, .accumulation = asked.size / pass};
}

int64_t total_steps(const RunOptions& run, int64_t packs, const BatchSizes& batch) {
  if (run.train.steps) return *run.train.steps;
  CHECK(run.train.epochs.has_value(), "neither train.steps nor train.epochs is set");
  const double batches =
      *run.train.epochs * static_cast<double>(packs) / static_cast<double>(batch.global_batch_size);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(batches)));
}

}  // namespace ink
