#include "data/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "data/tokenizer/tokenizer_json_pipeline.h"
#include "engine/core/utf8.h"
#include "engine/io/json.h"

namespace ink {
namespace {

using nlohmann::json;

constexpr JsonLimits kLimits{.max_bytes = uint64_t{128} << 20, .max_depth = 32};
constexpr int64_t kMaxHoles = 1 << 16;  // ids that no entry names, in all
constexpr size_t kMaxSymbolBytes = 1024;

void refuse_if_set(const JsonReader& object, std::string_view key) {
  if (!object.has(key)) return;
  const json& value = object.at(key);
  if (value == json("") || value == json(0.0) || value == json(0)) return;
  throw object.error(key, "null (nothing else is supported)");
}

// Collects id -> piece with checks: unique ids, few holes, valid text.
class Vocabulary {
 public:
  explicit Vocabulary(std::string place) : place_(std::move(place)) {}

  void read(const JsonReader& model) {
    const json& vocab = model.at("vocab");
    if (!vocab.is_object()) throw model.error("vocab", "an object of pieces and ids");
    const int64_t end = static_cast<int64_t>(vocab.size()) + kMaxHoles;
    for (const auto& [piece, value] : vocab.items()) {
      if (!value.is_number_integer() || value < 0 || value >= end) {
        fail(fmt::format("piece {} in [0, {}), got {}", quote_name(piece), end,
                         describe_json(value)));
      }
      add(piece, value.get<int32_t>());
    }
    ids_.reserve(pieces_.size());
    for (size_t id = 0; id < pieces_.size(); ++id) {
      if (!pieces_[id].empty()) ids_.emplace(pieces_[id], static_cast<int32_t>(id));
    }
  }

  [[nodiscard]] int32_t id_of(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? -1 : found->second;
  }

  // An added token names a piece of the model or a new one.
  void add_token(const AddedToken& token) {
    if (const int32_t known = id_of(token.content); known >= 0) {
      if (known != token.id) {
        fail(fmt::format("added token {} at {} as in the vocabulary, got {}",
                         quote_name(token.content), known, token.id));
      }
      return;
    }
    if (token.id >= static_cast<int64_t>(pieces_.size()) + kMaxHoles) {
      fail(fmt::format("added token {} near the vocabulary of {}, got {}",
                       quote_name(token.content), pieces_.size(), token.id));
    }
    add(token.content, token.id);
  }

  [[nodiscard]] size_t size() const { return pieces_.size(); }
  std::vector<std::string> take() && { return std::move(pieces_); }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw Error(ExitCode::kBadInput, place_, "expected the id of " + expected);
  }

  void add(const std::string& piece, int32_t id) {
    if (piece.empty() || piece.size() > kMaxSymbolBytes) {
      fail(fmt::format("a piece of 1 to {} bytes, piece {} has {}", kMaxSymbolBytes, id,
                       piece.size()));
    }
    if (static_cast<size_t>(id) >= pieces_.size()) pieces_.resize(static_cast<size_t>(id) + 1);
    if (!pieces_[id].empty()) {
      fail(fmt::format("{} to be its own, {} has {} too", quote_name(piece),
                       quote_name(pieces_[id]), id));
    }
    pieces_[id] = piece;
  }

  std::string place_;
  std::vector<std::string> pieces_;
  std::unordered_map<std::string_view, int32_t> ids_;  // of the model's pieces
};

// "a b", or ["a", "b"].
std::pair<std::string, std::string> merge_sides(const json& rule, size_t rank,
                                                const std::string& place) {
  if (rule.is_array() && rule.size() == 2 && rule[0].is_string() && rule[1].is_string()) {
    return {rule[0].get<std::string>(), rule[1].get<std::string>()};
  }
  if (rule.is_string()) {
    const std::string text = rule.get<std::string>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  throw Error(ExitCode::kBadInput, place,
              fmt::format("expected merge {} as \"left right\" or [\"left\", \"right\"], got {}",
                          rank, describe_json(rule)));
}

std::vector<MergeRule> read_merges(const JsonReader& model, const Vocabulary& vocabulary) {
  const json& list = model.at("merges");
  if (!list.is_array()) throw model.error("merges", "a list");
  std::vector<MergeRule> rules;
  rules.reserve(list.size());
  for (size_t rank = 0; rank < list.size(); ++rank) {
    const auto [left, right] = merge_sides(list[rank], rank, model.place());
    const MergeRule rule{vocabulary.id_of(left), vocabulary.id_of(right),
                         vocabulary.id_of(left + right)};
    if (rule.left < 0 || rule.right < 0 || rule.merged < 0) {
      throw Error(
          ExitCode::kBadInput, model.place(),
          fmt::format(
              "expected both sides and the result of merge {} in the vocabulary, got {} + {}", rank,
              quote_name(left), quote_name(right)));
    }
    rules.push_back(rule);
  }
  return rules;
}

std::vector<AddedToken> read_added(const JsonReader& root, Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  if (!root.has("added_tokens")) return tokens;
  const json& list = root.at("added_tokens");
  if (!list.is_array()) throw root.error("added_tokens", "a list");
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonReader entry(list[i], root.place(), fmt::format("added_tokens[{}]", i));
    for (const std::string_view flag : {"single_word", "lstrip", "rstrip"}) {
      if (entry.boolean_or(flag, false))
        throw entry.error(flag, "false (nothing else is supported)");
    }
    AddedToken token{.id = static_cast<int32_t>(entry.integer("id", 0, INT32_MAX)),
                     .content = entry.string("content"),
                     .special = entry.boolean_or("special", false),
                     .normalized = entry.boolean_or("normalized", false)};
    vocabulary.add_token(token);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void read_model(const JsonReader& model, TokenizerSpec& spec, Vocabulary& vocabulary) {
  if (model.has("type") && model.string("type") != "BPE") throw model.error("type", "BPE");
  for (const std::string_view key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    refuse_if_set(model, key);
  }
  vocabulary.read(model);
  spec.model_pieces = static_cast<int64_t>(vocabulary.size());
  spec.merges = read_merges(model, vocabulary);
  spec.ignore_merges = model.boolean_or("ignore_merges", false);
  if (model.has("unk_token")) spec.unk = model.string("unk_token");
  if (!spec.byte_level && !model.boolean_or("byte_fallback", false)) {
    throw model.error("byte_fallback", "true where no byte-level pre-tokenizer is");
  }
}

}  // namespace

TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& place) {
  const json document = parse_json(text, place, kLimits);
  const JsonReader root(document, place);
  TokenizerSpec spec;
  read_pipeline(root, spec);  // says whether the vocabulary is byte-level
  Vocabulary vocabulary(place);
  read_model(root.object("model"), spec, vocabulary);
  spec.added = read_added(root, vocabulary);
  spec.pieces = std::move(vocabulary).take();
  return spec;
}

}  // namespace ink
