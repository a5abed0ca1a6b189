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

#include "configs/schema/data_options.h"
#include "data/loader/batch_plan.h"
#include "data/loader/loader.h"
#include "data/loader/prepare.h"
#include "data/tokenizer/tokenizer.h"

namespace ink {

struct DataSetSetup {
  DataSection data;
  int64_t vocab_size = 0;  // of the model; every id must be below it
  uint64_t seed = 0;       // of synthetic data
  // Order of the documents in a store that is made on the way; asked of a finished one only when
  // set.
  std::optional<uint64_t> prepare_seed;
  // Of those documents; kNumpy is asked of a finished store, too.
  DocumentOrder order = DocumentOrder::kPermuted;
  std::filesystem::path cache;                 // folder of such stores, unless data.cache names one
  std::shared_ptr<const Tokenizer> tokenizer;  // for text; without one a text file is error 2
  std::string tokenizer_setting = "model.tokenizer";  // what gives one, for that error
  std::function<void(const PrepareProgress&)> progress;
};

struct EvalPacks {
  std::string name;
  std::shared_ptr<const PackSource> packs;
};

class DataSet {
 public:
  std::vector<LoaderSource> train;
  std::vector<EvalPacks> eval;

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

[[nodiscard]] DataSet open_data_set(const DataSetSetup& setup);
// The token store of files that a run would read with this setup.
[[nodiscard]] std::shared_ptr<const TokenStore> open_files(const DataSetSetup& setup,
                                                           const TrainSource& files);

}  // namespace ink
