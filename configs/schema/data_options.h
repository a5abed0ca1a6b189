// The `data` section of a run file: which text is trained on and how it becomes packs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/field.h"

namespace ink {

enum class DataFormat { kAuto, kText, kLines, kJsonl, kDictd, kFortune, kStore, kInternEvo };

template <>
struct Choices<DataFormat> {
  static constexpr Choice<DataFormat> kBuilt[] = {
      {"auto", DataFormat::kAuto},   {"txt", DataFormat::kText},
      {"lines", DataFormat::kLines}, {"jsonl", DataFormat::kJsonl},
      {"dictd", DataFormat::kDictd}, {"fortune", DataFormat::kFortune},
      {"store", DataFormat::kStore}, {"internevo", DataFormat::kInternEvo}};
};

enum class DataOrder { kShuffled, kSequential };

template <>
struct Choices<DataOrder> {
  static constexpr Choice<DataOrder> kBuilt[] = {{"shuffled", DataOrder::kShuffled},
                                                 {"sequential", DataOrder::kSequential}};
};

enum class BadRow { kError, kSkip };

template <>
struct Choices<BadRow> {
  static constexpr Choice<BadRow> kBuilt[] = {{"error", BadRow::kError}, {"skip", BadRow::kSkip}};
};

enum class ResetPositions { kDocument, kNever };

template <>
struct Choices<ResetPositions> {
  static constexpr Choice<ResetPositions> kBuilt[] = {{"document", ResetPositions::kDocument},
                                                      {"never", ResetPositions::kNever}};
};

// Random token documents, to try sizes and layouts without files.
struct SyntheticOptions {
  int64_t documents = 1000;
  int64_t length = 1024;

  template <class V>
  void fields(V& v) {
    v.field("documents", documents, "number of documents", at_least(1));
    v.field("length", length, "tokens of a document", at_least(2));
  }
  friend bool operator==(const SyntheticOptions&, const SyntheticOptions&) = default;
};

struct TrainSource {
  std::optional<std::string> path;
  std::optional<SyntheticOptions> synthetic;
  DataFormat format = DataFormat::kAuto;
  std::optional<double> weight;
  std::optional<int64_t> max_samples;

  template <class V>
  void fields(V& v) {
    v.field("path", path, "file or folder; this or synthetic");
    v.field("synthetic", synthetic, "random documents instead of a file");
    v.field("format", format, "auto = by the file's name and first bytes");
    v.field("weight", weight,
            "share of the packs; unset on all sources = proportional to their size", above(0));
    v.field("max_samples", max_samples, "use only the first documents", at_least(1));
  }
  friend bool operator==(const TrainSource&, const TrainSource&) = default;
};

struct EvalSet {
  std::string name;
  std::string path;

  template <class V>
  void fields(V& v) {
    v.field("name", name, "name of the set in logs: eval/NAME/loss");
    v.field("path", path, "file or folder");
  }
  friend bool operator==(const EvalSet&, const EvalSet&) = default;
};

// `{fraction: 0.01}` holds documents of data.train out; `{path: F}` is one set of its own,
// `[{name, path}]` several.
struct EvalOptions {
  std::optional<double> fraction;
  std::optional<std::string> path;
  std::vector<EvalSet> sets;

  template <class V>
  void fields(V& v) {
    v.field("fraction", fraction, "share of the documents of data.train that is held out",
            Rule{.low = 0, .high = 1, .low_bound = Bound::kOpen, .high_bound = Bound::kOpen});
    v.field("path", path, "one file or folder, named after itself in logs; this or fraction");
  }
  // The member that the section's list form fills.
  std::vector<EvalSet>& list_form() { return sets; }
  friend bool operator==(const EvalOptions&, const EvalOptions&) = default;
};

struct DataSection {
  std::vector<TrainSource> train;
  EvalOptions eval;
  int64_t max_length = 2048;
  bool packing = true;
  DataOrder order = DataOrder::kShuffled;
  std::optional<std::string> cache;
  int64_t workers = 0;
  BadRow on_bad_row = BadRow::kError;
  bool eos_between = true;
  ResetPositions reset_positions = ResetPositions::kDocument;

  template <class V>
  void fields(V& v) {
    v.field("train", train, "sources of training text");
    v.field("eval", eval, "held-out text: {fraction: F}, {path: P} or a list of {name, path}");
    v.field("max_length", max_length, "tokens of a pack; without packing, of the longest sample",
            at_least(2));
    v.field("packing", packing,
            "lay documents end to end and cut packs; attention stays inside. false = each document "
            "is a sample of its own, cut where it is longer than max_length");
    v.field("order", order, "order of the packs in an epoch");
    v.field("cache", cache, "folder of tokenised text; unset = cache/ in the run directory");
    v.field("workers", workers, "threads that tokenise; 0 = all cores", between(0, 1024));
    v.field("on_bad_row", on_bad_row, "stop at a malformed row, or count and skip it");
    v.field("eos_between", eos_between, "end each document with EOS");
    v.field("reset_positions", reset_positions, "where rotary positions start again from 0");
  }
  friend bool operator==(const DataSection&, const DataSection&) = default;
};

}  // namespace ink
