#include "data/store/store_format.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/core/error.h"
#include "engine/io/json.h"

namespace ink {
namespace {

constexpr int64_t kMost = int64_t{1} << 31;

void refuse_unknown(const JsonReader& object, const std::vector<std::string>& known) {
  for (const std::string& key : object.keys())
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw Error(ExitCode::kBadInput, object.place(), "unknown field " + quote_name(key));
}

std::vector<StoreSource> read_sources(const nlohmann::json& list, const std::string& place) {
  if (!list.is_array() || list.empty() || list.size() > kMaxStoreSources)
    throw Error(ExitCode::kBadInput, place,
                fmt::format("sources: expected an array of 1 to {}, got {}", kMaxStoreSources,
                            describe_json(list)));
  std::vector<StoreSource> sources;
  for (const nlohmann::json& item : list) {
    const JsonReader source(item, place, "sources");
    refuse_unknown(source, {"path", "sha256"});
    sources.push_back({source.string("path"), source.string("sha256")});
  }
  return sources;
}

StoreDrops read_drops(const JsonReader& drops) {
  refuse_unknown(drops, {"empty_documents", "bad_rows"});
  return {.empty_documents = drops.integer("empty_documents", 0),
          .bad_rows = drops.integer("bad_rows", 0)};
}

}  // namespace

const char* split_name(Split split) { return split == Split::kTrain ? "train" : "eval"; }

const char* name_of(DocumentOrder order) {
  return order == DocumentOrder::kNumpy ? "numpy" : "permuted";
}

std::vector<std::string> StoreHeader::source_paths() const {
  std::vector<std::string> paths;
  for (const StoreSource& source : sources) paths.push_back(source.path);
  return paths;
}

std::string StoreHeader::to_json() const {
  nlohmann::json list = nlohmann::json::array();
  for (const StoreSource& source : sources)
    list.push_back({{"path", source.path}, {"sha256", source.sha256}});
  nlohmann::json json = {{"format", kStoreFormat},
                         {"version", kStoreVersion},
                         {"vocab_size", vocab_size},
                         {"tokenizer_hash", tokenizer_hash},
                         {"seed", seed},
                         {"max_length", max_length},
                         {"eval_fraction", eval_fraction},
                         {"sources", list},
                         {"content_hash", content_hash}};
  if (order == DocumentOrder::kNumpy) json["order"] = name_of(order);
  if (dropped)
    json["dropped"] = {{"empty_documents", dropped->empty_documents},
                       {"bad_rows", dropped->bad_rows}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

StoreHeader StoreHeader::from_json(const std::string& text, const std::string& place) {
  const nlohmann::json json = parse_json(text, place);
  const JsonReader reader(json, place);
  refuse_unknown(reader, {"format", "version", "vocab_size", "tokenizer_hash", "seed", "max_length",
                          "eval_fraction", "sources", "content_hash", "order", "dropped"});
  if (reader.string("format") != kStoreFormat)
    throw reader.error("format", fmt::format("\"{}\"", kStoreFormat));
  (void)reader.integer("version", kStoreVersion, kStoreVersion);

  StoreHeader header;
  header.vocab_size = reader.integer("vocab_size", 1, kMost);
  header.tokenizer_hash = reader.string("tokenizer_hash");
  header.seed = static_cast<uint64_t>(reader.integer("seed", 0));
  if (reader.has("order")) {
    if (reader.string("order") != name_of(DocumentOrder::kNumpy))
      throw reader.error("order", "\"numpy\"");
    header.order = DocumentOrder::kNumpy;
  }
  header.max_length = reader.integer("max_length", 1, kMost);
  header.eval_fraction = reader.number("eval_fraction");
  if (!(header.eval_fraction >= 0 && header.eval_fraction < 1))
    throw reader.error("eval_fraction", "a number in [0, 1)");
  header.sources = read_sources(reader.at("sources"), place);
  header.content_hash = reader.string("content_hash");
  if (reader.has("dropped")) header.dropped = read_drops(reader.object("dropped"));
  return header;
}

}  // namespace ink
