#include "data/tokenizer/export.h"

#include <array>
#include <nlohmann/json.hpp>

#include "data/tokenizer/sentencepiece_merges.h"
#include "data/tokenizer/tokenizer_config.h"
#include "engine/core/error.h"
#include "engine/io/atomic_file.h"

namespace ink {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;
constexpr std::string_view kBar = "\xE2\x96\x81";

// Files of a Hugging Face directory that belong to its tokenizer.
constexpr std::array<const char*, 8> kTokenizerFiles{
    "tokenizer.json",    "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja",   "vocab.json",      "merges.txt"};

// Reserved spellings hold letters, digits, `_` and brackets.
std::string escaped(std::string_view spelling) {
  std::string out;
  for (const char c : spelling) {
    if (c == '[' || c == ']') out += '\\';
    out += c;
  }
  return out;
}

json added_token(int32_t id, std::string_view content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// The name an id has in the exported vocabulary: the chat spelling where there is one.
std::string exported_name(const SentencePieceTokenizer& tokenizer, int32_t id) {
  return tokenizer.is_special(id) ? std::string(tokenizer.piece_bytes(id))
                                  : tokenizer.id_to_piece(id);
}

// Special tokens, and the user-defined pieces of ordinary text, which are found before any merge.
json added_tokens(const SentencePieceTokenizer& tokenizer) {
  json tokens = json::array();
  const auto& pieces = tokenizer.model().pieces;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) {
      if (!tokenizer.piece_bytes(id).empty())
        tokens.push_back(added_token(id, exported_name(tokenizer, id), true));
    } else if (pieces[id].type == PieceType::kUserDefined &&
               !SentencePieceTokenizer::is_reserved_name(pieces[id].text)) {
      tokens.push_back(added_token(id, tokenizer.piece_bytes(id), false));
    }
  }
  return tokens;
}

void refuse_unless_expressible(const SentencePieceModel& model, const std::string& place) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ExitCode::kConfig, place,
                "expected a tokenizer that tokenizer.json can express, " + what);
  };
  if (!model.is_bpe) refuse("got a unigram model");
  if (!model.byte_fallback) refuse("got a model without byte fallback");
  if (!model.keeps_text()) refuse("got one that adds a prefix space or drops white space");
  for (const SentencePieceEntry& piece : model.pieces) {
    if (piece.type == PieceType::kUnused)
      refuse(fmt::format("got the unused piece {}", piece.text));
  }
}

json model_json(const SentencePieceTokenizer& tokenizer) {
  json vocab = json::object();
  for (int32_t id = 0; id < static_cast<int32_t>(tokenizer.model().pieces.size()); ++id) {
    vocab[exported_name(tokenizer, id)] = id;
  }
  json merges = json::array();
  for (const auto& [left, right] : implied_merges(tokenizer.model())) {
    merges.push_back(json::array({left, right}));
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", exported_name(tokenizer, tokenizer.special_ids().unk.value())},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"byte_fallback", true},
          {"ignore_merges", false},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

// Safe encoding cuts a reserved spelling after its first character; so does this split, by a
// pattern of that character followed by the rest of any of them.
json reserved_cut(const SentencePieceModel& model) {
  std::string pattern;
  for (const SentencePieceEntry& piece : model.pieces) {
    if (!SentencePieceTokenizer::is_reserved_name(piece.text)) continue;
    pattern += pattern.empty() ? "" : "|";
    pattern += escaped(piece.text.substr(0, 1)) + "(?=" + escaped(piece.text.substr(1)) + ")";
  }
  if (pattern.empty()) return nullptr;
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "MergedWithPrevious"},
          {"invert", false}};
}

json bos_template(const SentencePieceTokenizer& tokenizer) {
  if (!tokenizer.adds_bos()) return nullptr;
  const int32_t id = tokenizer.special_ids().bos.value();
  const std::string name = exported_name(tokenizer, id);
  const auto special = [&](int type) {
    return json{{"SpecialToken", {{"id", name}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* which, int type) {
    return json{{"Sequence", {{"id", which}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", json::array({special(0), sequence("A", 0)})},
          {"pair", json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)})},
          {"special_tokens",
           {{name, {{"id", name}, {"ids", json::array({id})}, {"tokens", json::array({name})}}}}}};
}

json special_names(const SentencePieceTokenizer& tokenizer) {
  json names = json::object();
  const SpecialIds& ids = tokenizer.special_ids();
  const auto add = [&](const char* key, const std::optional<int32_t>& id) {
    if (id) names[key] = exported_name(tokenizer, *id);
  };
  add("bos_token", ids.bos);
  add("eos_token", ids.eos);
  add("pad_token", ids.pad);
  add("unk_token", ids.unk);
  return names;
}

// PreTrainedTokenizerFast takes tokenizer.json as it is; the Llama classes would add a prefix
// space.
json config_json(const SentencePieceTokenizer& tokenizer, const std::string& chat_template) {
  json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
              {"add_bos_token", tokenizer.adds_bos()},
              {"add_eos_token", false},
              {"clean_up_tokenization_spaces", false}};
  config.update(special_names(tokenizer));
  json decoder = json::object();
  for (json token : added_tokens(tokenizer)) {
    const std::string id = std::to_string(token["id"].get<int32_t>());
    token.erase("id");
    decoder[id] = std::move(token);
  }
  config["added_tokens_decoder"] = std::move(decoder);
  if (!chat_template.empty()) config["chat_template"] = chat_template;
  return config;
}

void write(const std::filesystem::path& directory, const char* name, std::string_view text) {
  write_file_atomically(directory / name, text);
}

void copy_files(const SafeDirectory& source, const std::filesystem::path& directory) {
  for (const char* name : kTokenizerFiles) {
    if (source.has(name)) write(directory, name, read_text(source.open(name), kMaxFileBytes));
  }
}

void write_sentencepiece(const SentencePieceTokenizer& tokenizer, const std::string& chat_template,
                         const std::string& place, const std::filesystem::path& directory) {
  write(directory, "tokenizer.json", make_tokenizer_json(tokenizer, place));
  write(directory, "tokenizer.model", tokenizer.model_bytes());
  write(directory, "tokenizer_config.json", config_json(tokenizer, chat_template).dump(2) + "\n");
  write(directory, "special_tokens_map.json", special_names(tokenizer).dump(2) + "\n");
}

}  // namespace

std::string make_tokenizer_json(const SentencePieceTokenizer& tokenizer, const std::string& place) {
  refuse_unless_expressible(tokenizer.model(), place);
  const json document{
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added_tokens(tokenizer)},
      {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kBar}}},
      {"pre_tokenizer", reserved_cut(tokenizer.model())},
      {"post_processor", bos_template(tokenizer)},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         json::array({{{"type", "Replace"}, {"pattern", {{"String", kBar}}}, {"content", " "}},
                      {{"type", "ByteFallback"}},
                      {{"type", "Fuse"}}})}}},
      {"model", model_json(tokenizer)}};
  return document.dump();
}

void export_tokenizer(const std::string& source, const std::filesystem::path& directory) {
  std::error_code status;
  if (!std::filesystem::is_directory(source, status)) {
    if (source.ends_with(".json")) {
      write(directory, "tokenizer.json", read_text(source, kMaxFileBytes));
    } else {
      write_sentencepiece(*SentencePieceTokenizer::open(source), {}, source, directory);
    }
    return;
  }
  const SafeDirectory files(source);
  if (files.has("tokenizer.json")) {
    copy_files(files, directory);
    return;
  }
  const TokenizerConfig config = read_tokenizer_config(files);
  const File model = files.open("tokenizer.model");
  const auto tokenizer = SentencePieceTokenizer::from_bytes(
      read_text(model, kMaxFileBytes), model.place(), sentencepiece_options(config));
  write_sentencepiece(*tokenizer, config.chat_template, model.place(), directory);
  if (files.has("chat_template.jinja")) {
    write(directory, "chat_template.jinja",
          read_text(files.open("chat_template.jinja"), kMaxFileBytes));
  }
}

}  // namespace ink
