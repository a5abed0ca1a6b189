#include "data/tokenizer/tokenizer_config.h"

#include <charconv>

#include "engine/io/json.h"

namespace ink {
namespace {

using nlohmann::json;

// "</s>" or {"content": "</s>", ...}
std::string token_name(const JsonReader& root, std::string_view key) {
  if (!root.has(key)) return {};
  return root.at(key).is_object() ? root.object(key).string("content") : root.string(key);
}

void read_names(const JsonReader& root, TokenizerConfig& config) {
  if (config.bos.empty()) config.bos = token_name(root, "bos_token");
  if (config.eos.empty()) config.eos = token_name(root, "eos_token");
  if (config.pad.empty()) config.pad = token_name(root, "pad_token");
}

// {"92543": {"content": "<|im_start|>", ...}, ...}
void read_added(const JsonReader& root, TokenizerConfig& config) {
  if (!root.has("added_tokens_decoder")) return;
  const JsonReader table = root.object("added_tokens_decoder");
  for (const std::string& key : table.keys()) {
    int32_t id = -1;
    const auto [end, status] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (status != std::errc() || end != key.data() + key.size() || id < 0) {
      throw table.error(key, "an id as the key");
    }
    config.added_tokens[table.object(key).string("content")] = id;
  }
}

}  // namespace

TokenizerConfig read_tokenizer_config(const SafeDirectory& directory) {
  TokenizerConfig config;
  if (directory.has("tokenizer_config.json")) {
    const File file = directory.open("tokenizer_config.json");
    const json document = read_json(file);
    const JsonReader root(document, file.place());
    read_names(root, config);
    read_added(root, config);
    if (root.has("add_bos_token")) config.add_bos = root.boolean("add_bos_token");
    if (root.has("chat_template") && root.at("chat_template").is_string()) {
      config.chat_template = root.string("chat_template");
    }
  }
  if (directory.has("special_tokens_map.json")) {
    const File file = directory.open("special_tokens_map.json");
    const json document = read_json(file);
    read_names(JsonReader(document, file.place()), config);
  }
  return config;
}

SentencePieceOptions sentencepiece_options(const TokenizerConfig& config) {
  return {.adds_bos = config.add_bos.value_or(true),
          .added_tokens = config.added_tokens,
          .bos = config.bos,
          .eos = config.eos,
          .pad = config.pad};
}

}  // namespace ink
