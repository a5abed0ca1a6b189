// What `data inspect` and `data stats` look at: the data of a run file as its training reads them,
// a token store, or files as a run that names them would read them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/inspect.h"
#include "launch/trainer/session.h"

namespace ink {

enum class TargetKind { kRun, kStore, kFiles };

struct DataTarget {
  std::string path;
  std::vector<std::string> overrides;  // key.sub=value of a run file
  std::string tokenizer, format = "auto";
  int64_t max_length = 0;  // 0: not given
  int64_t ranks = 1;
  bool unpacked = false, skip_bad_rows = false;

  // By the ending for a run file, by ending or content for a store.
  [[nodiscard]] TargetKind kind() const;
  // Error(kConfig) for a flag that has no meaning for this kind.
  void check() const;
};

void add_target(CLI::App& verb, const std::shared_ptr<DataTarget>& target);

// Packs, or samples, of one source.
struct DataPart {
  std::string name;
  Split split = Split::kTrain;  // kEval: what a run evaluates on
  std::shared_ptr<const PackSource> packs;
};

struct DataView {
  std::vector<DataPart> parts;  // in the order of the run file, what is trained on first
  PackUnit unit = PackUnit::kPacks;
  ResetPositions reset_positions = ResetPositions::kDocument;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<SessionPlan> plan;  // of a run file
};

// Tokenises files first: those of a run file into its cache, others into a store that is gone when
// the view is. Error(kStopped) when a stop is asked for meanwhile.
[[nodiscard]] DataView open_view(const DataTarget& target, bool quiet);

// Of a tokenizer; without one all that a store can hold.
[[nodiscard]] int64_t vocabulary_of(const Tokenizer* tokenizer);
// Nothing for an empty path.
[[nodiscard]] std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& path);

}  // namespace ink
