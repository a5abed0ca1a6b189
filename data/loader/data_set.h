// What `data.train` and `data.eval` name, opened: sources of packs with counts, hashes and eval
// sets.
//
// Called by wiring (train), by `train --dry-run` and by the `data` verbs. A source is a token
// store, an InternEvo folder, text or token rows (both go through data.cache into a store), or
// synthetic.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/batch_plan.h"
#include "data/loader/loader.h"
#include "data/loader/prepare.h"

namespace ink {

struct SyntheticSpec {
  int64_t documents = 1024, length = 512;
};

struct TrainSourceSpec {
  std::string path;
  std::optional<SyntheticSpec> synthetic;
  std::string format;  // empty: from the file
  std::optional<double> weight;
  int64_t max_samples = 0;  // documents taken from the front; 0: all
};

struct EvalSourceSpec {
  std::string name, path;
};

struct DataSetOptions {
  std::vector<TrainSourceSpec> train;
  std::vector<EvalSourceSpec> eval;
  std::optional<double> eval_fraction;   // asked for: a store made with another one is error 2
  std::optional<uint64_t> prepare_seed;  // likewise; order of the documents in the store
  int64_t max_length = 0;                // likewise
  int64_t vocab_size = 0;                // of the model; ids must be below it
  uint64_t seed = 0;                     // of the synthetic data
  std::filesystem::path cache;           // folder for stores made on the way
  TextEncoding encoding;                 // for text; without encode, text files are error 2
  std::string tokenizer_hash;
  PrepareOptions prepare;
};

struct EvalSet {
  std::string name;
  std::shared_ptr<const PackSource> packs;
};

class DataSet {
 public:
  std::vector<LoaderSource> train;
  std::vector<EvalSet> eval;

  [[nodiscard]] int64_t packs() const;
  [[nodiscard]] int64_t tokens() const;
  [[nodiscard]] int64_t documents() const;
  [[nodiscard]] int64_t steps_per_epoch(const BatchPlan& plan) const {
    return plan.steps_for(packs());
  }

  // Name, pack count and content hash of every training source, for the checkpoint.
  [[nodiscard]] nlohmann::json identity() const;
  // Code 3 if the data are not those of `saved`: names what differs.
  void check_identity(const nlohmann::json& saved, const std::string& place) const;
};

[[nodiscard]] DataSet open_data_set(const DataSetOptions& options);

}  // namespace ink
