#include "data/tokenizer/bpe_tokenizer.h"

#include <algorithm>
#include <span>
#include <utility>

#include "data/tokenizer/byte_alphabet.h"
#include "engine/core/error.h"
#include "engine/core/utf8.h"
#include "engine/io/file.h"
#include "engine/io/sha256.h"

namespace ink {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{128} << 20;

// C0, C1 and F5-FF occur in no valid text.
bool occurs_in_utf8(int byte) { return byte < 0xC0 || (byte > 0xC1 && byte < 0xF5); }

std::string fallback_name(int byte) { return fmt::format("<0x{:02X}>", byte); }

// What a piece adds to decoded text.
std::string decoded_piece(const std::string& piece, const TokenizerSpec& spec) {
  if (spec.byte_level) return bytes_of_letters(piece).value_or(piece);
  std::string text = piece;
  for (const NormalizerStep& step : spec.decoder_steps)
    text = replace_all(text, step.from, step.to);
  return text;
}

}  // namespace

std::unique_ptr<BpeTokenizer> BpeTokenizer::open(const std::string& path,
                                                 const BpeOptions& options) {
  return from_json(read_text(path, kMaxFileBytes), path, options);
}

std::unique_ptr<BpeTokenizer> BpeTokenizer::from_json(std::string_view text,
                                                      const std::string& place,
                                                      const BpeOptions& options) {
  std::unique_ptr<BpeTokenizer> tokenizer(
      new BpeTokenizer(parse_tokenizer_json(text, place), place, options));
  tokenizer->content_hash_ = sha256_of(std::as_bytes(std::span(text)));
  return tokenizer;
}

BpeTokenizer::BpeTokenizer(TokenizerSpec spec, const std::string& place, const BpeOptions& options)
    : byte_level_(spec.byte_level),
      ignore_merges_(spec.ignore_merges),
      strips_first_space_(spec.decoder_strips_first_space),
      normalizer_(std::move(spec.normalizer)),
      merger_(spec.merges) {
  for (const SplitPattern& split : spec.splits) splits_.emplace_back(split, place);
  for (const std::string& piece : spec.pieces) bytes_.push_back(decoded_piece(piece, spec));
  pieces_ = std::move(spec.pieces);
  special_.resize(pieces_.size());
  index_added(spec.added, spec.model_pieces);
  index_symbols(spec, place);
  if (!byte_level_ && !ignore_merges_) {
    // A merge of byte pieces would join characters whose neighbourhood the pieces do not show.
    std::vector<bool> is_byte(pieces_.size());
    for (const int32_t id : byte_ids_) {
      if (id >= 0) is_byte[id] = true;
    }
    cuts_words_ = std::none_of(spec.merges.begin(), spec.merges.end(), [&](const MergeRule& rule) {
      return is_byte[rule.left] || is_byte[rule.right];
    });
    for (const std::string& piece : pieces_) joints_.add_piece(piece);
  }
  choose_special_ids(spec, place, options);
}

void BpeTokenizer::index_added(const std::vector<AddedToken>& added, int64_t model_pieces) {
  for (const AddedToken& token : added) {
    bytes_[token.id] = token.content;
    special_[token.id] = token.special;
    const bool ordinary = !token.special && token.id < model_pieces;
    if (!ordinary) special_spellings_.add(token.content, token.id);
    const std::string found = token.normalized ? normalizer_.apply(token.content) : token.content;
    for (AddedSets* sets : {&plain_, &safe_}) {
      if (sets == &safe_ && !ordinary) continue;
      (token.normalized ? sets->normalized : sets->raw).add(found, token.id);
    }
  }
}

void BpeTokenizer::index_symbols(const TokenizerSpec& spec, const std::string& place) {
  byte_ids_.assign(256, -1);
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < pieces_.size(); ++id) ids.emplace(pieces_[id], static_cast<int32_t>(id));
  for (int byte = 0; byte < 256; ++byte) {
    std::string name;
    if (byte_level_) {
      append_utf8(byte_letter(static_cast<uint8_t>(byte)), name);
    } else {
      name = fallback_name(byte);
    }
    if (const auto found = ids.find(name); found != ids.end()) {
      byte_ids_[byte] = found->second;
      if (!byte_level_) bytes_[found->second] = std::string(1, static_cast<char>(byte));
    } else if (occurs_in_utf8(byte) && !(byte_level_ && spec.unk.empty())) {
      throw Error(ExitCode::kBadInput, place,
                  fmt::format("expected a piece for byte 0x{:02X} in the vocabulary, {} is missing",
                              byte, name));
    }
  }
  for (size_t id = 0; id < pieces_.size(); ++id) {
    if (!byte_level_) {
      const CodePoint c = first_code_point(pieces_[id]);
      if (c.bytes > 0 && c.bytes == pieces_[id].size())
        character_ids_.emplace(c.value, static_cast<int32_t>(id));
    }
    if (ignore_merges_ && !special_[id] && !pieces_[id].empty()) {
      whole_words_.emplace(byte_level_ ? bytes_[id] : pieces_[id], static_cast<int32_t>(id));
    }
  }
}

void BpeTokenizer::choose_special_ids(const TokenizerSpec& spec, const std::string& place,
                                      const BpeOptions& options) {
  const auto id_of = [&](const std::string& name, std::string_view role) -> std::optional<int32_t> {
    if (name.empty()) return std::nullopt;
    if (const auto found = special_id(name)) return found;
    const auto at = std::find(pieces_.begin(), pieces_.end(), name);
    if (at != pieces_.end()) return static_cast<int32_t>(at - pieces_.begin());
    throw Error(
        ExitCode::kBadInput, place,
        fmt::format("expected the {} token {} in the vocabulary, it is not there", role, name));
  };
  special_ids_ = {.bos = id_of(spec.bos.empty() ? options.bos : spec.bos, "bos"),
                  .eos = id_of(options.eos, "eos"),
                  .pad = id_of(options.pad, "pad"),
                  .unk = id_of(spec.unk, "unk")};
  adds_bos_ = !spec.bos.empty() || (options.adds_bos && special_ids_.bos.has_value());
}

void BpeTokenizer::append_plain(std::string_view text, std::vector<int32_t>& ids) const {
  append(text, plain_, ids);
}

void BpeTokenizer::append_safe(std::string_view text, std::vector<int32_t>& ids) const {
  append(text, safe_, ids);
}

void BpeTokenizer::append(std::string_view text, const AddedSets& added,
                          std::vector<int32_t>& ids) const {
  std::string repaired;
  if (find_invalid_utf8(text) != std::string_view::npos) text = repaired = repair_utf8(text);
  const auto section = [&](std::string_view part) {
    if (part.empty()) return;
    if (normalizer_.changes_nothing()) {
      append_normalized(part, added, ids);
    } else {
      append_normalized(normalizer_.apply(part), added, ids);
    }
  };
  while (const SpellingMatch match = added.raw.find(text)) {
    section(text.substr(0, match.begin));
    ids.push_back(match.id);
    text.remove_prefix(match.begin + match.length);
  }
  section(text);
}

void BpeTokenizer::append_normalized(std::string_view text, const AddedSets& added,
                                     std::vector<int32_t>& ids) const {
  while (const SpellingMatch match = added.normalized.find(text)) {
    append_words(text.substr(0, match.begin), 0, ids);
    ids.push_back(match.id);
    text.remove_prefix(match.begin + match.length);
  }
  append_words(text, 0, ids);
}

// Applies the splits from number `split` on, then encodes each word.
void BpeTokenizer::append_words(std::string_view text, size_t split,
                                std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  if (split < splits_.size()) {
    splits_[split].split(text, [&](std::string_view word) { append_words(word, split + 1, ids); });
  } else if (cuts_words_) {
    joints_.for_each_word(text, [&](std::string_view word) { append_word(word, ids); });
  } else {
    append_word(text, ids);
  }
}

void BpeTokenizer::append_word(std::string_view word, std::vector<int32_t>& ids) const {
  if (cache_.append(word, ids)) return;
  const size_t before = ids.size();
  append_merged(word, ids);
  cache_.remember(word, std::span(ids).subspan(before));
}

void BpeTokenizer::append_merged(std::string_view word, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (const auto found = whole_words_.find(word); found != whole_words_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  std::vector<int32_t> symbols;
  symbols.reserve(word.size());
  for (size_t i = 0; i < word.size();) {
    size_t next = i + 1;
    if (!byte_level_) {
      const CodePoint c = first_code_point(word.substr(i));
      next = i + c.bytes;
      if (const auto found = character_ids_.find(c.value); found != character_ids_.end()) {
        symbols.push_back(found->second);
        i = next;
        continue;
      }
    }
    for (; i < next; ++i) {
      // SmolLM2 has no piece for some control bytes; the tokenizers library leaves them out.
      if (const int32_t id = byte_ids_[static_cast<uint8_t>(word[i])]; id >= 0)
        symbols.push_back(id);
    }
  }
  merger_.append(symbols, ids);
}

std::string BpeTokenizer::id_to_piece(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "id {} is outside of the vocabulary of {}", id, vocab_size());
  return pieces_[id];
}

std::string_view BpeTokenizer::piece_bytes(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "id {} is outside of the vocabulary of {}", id, vocab_size());
  return bytes_[id];
}

bool BpeTokenizer::is_special(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "id {} is outside of the vocabulary of {}", id, vocab_size());
  return special_[id];
}

}  // namespace ink
