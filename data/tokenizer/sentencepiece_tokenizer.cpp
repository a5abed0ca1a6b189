#include "data/tokenizer/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <utility>

#include "data/tokenizer/quiet_sentencepiece.h"
#include "engine/core/error.h"
#include "engine/core/utf8.h"
#include "engine/io/file.h"
#include "engine/io/sha256.h"

namespace ink {
namespace {

constexpr std::string_view kBar = "\xE2\x96\x81";  // U+2581, SentencePiece's space
constexpr int32_t kBarMark = 0;  // its value in the guard; blocked pieces never have id 0
constexpr uint64_t kMaxModelBytes = uint64_t{256} << 20;
constexpr int32_t kMaxAddedIds = 1 << 16;

// InternLM2's chat spellings, which its tokenizer.model holds under reserved names.
constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kChatPieces{{
    {"<|plugin|>", "[UNUSED_TOKEN_141]"},
    {"<|interpreter|>", "[UNUSED_TOKEN_142]"},
    {"<|action_end|>", "[UNUSED_TOKEN_143]"},
    {"<|action_start|>", "[UNUSED_TOKEN_144]"},
    {"<|im_end|>", "[UNUSED_TOKEN_145]"},
    {"<|im_start|>", "[UNUSED_TOKEN_146]"},
}};
// InternLM1's, which bear their own names.
constexpr std::array<std::string_view, 2> kTurnPieces{"<eoh>", "<eoa>"};

bool is_numbered(std::string_view piece, std::string_view head, std::string_view tail) {
  if (piece.size() <= head.size() + tail.size() || !piece.starts_with(head) ||
      !piece.ends_with(tail)) {
    return false;
  }
  piece.remove_prefix(head.size());
  piece.remove_suffix(tail.size());
  return std::all_of(piece.begin(), piece.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string with_spaces(std::string_view piece) {
  std::string text;
  for (size_t at; (at = piece.find(kBar)) != std::string_view::npos;
       piece.remove_prefix(at + kBar.size())) {
    text += piece.substr(0, at);
    text += ' ';
  }
  return text += piece;
}

}  // namespace

bool SentencePieceTokenizer::is_reserved_name(std::string_view piece) {
  return is_numbered(piece, "[UNUSED_TOKEN_", "]") || is_numbered(piece, "<TOKENS_UNUSED_", ">") ||
         std::find(kTurnPieces.begin(), kTurnPieces.end(), piece) != kTurnPieces.end();
}

std::unique_ptr<SentencePieceTokenizer> SentencePieceTokenizer::open(
    const std::string& path, const SentencePieceOptions& options) {
  return from_bytes(read_text(path, kMaxModelBytes), path, options);
}

std::unique_ptr<SentencePieceTokenizer> SentencePieceTokenizer::from_bytes(
    std::string bytes, const std::string& path, const SentencePieceOptions& options) {
  return std::unique_ptr<SentencePieceTokenizer>(
      new SentencePieceTokenizer(std::move(bytes), path, options));
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

SentencePieceTokenizer::SentencePieceTokenizer(std::string bytes, const std::string& path,
                                               const SentencePieceOptions& options)
    : bytes_(std::move(bytes)), model_(parse_sentencepiece_model(bytes_, path)) {
  load_library(path);
  index_pieces();
  add_chat_spellings(path);
  for (const auto& [spelling, id] : options.added_tokens) add_special(spelling, id, path);
  choose_special_ids(options, path);
  adds_bos_ = options.adds_bos && special_ids_.bos.has_value();
  content_hash_ = sha256_of(std::as_bytes(std::span(bytes_)));
}

void SentencePieceTokenizer::load_library(const std::string& path) {
  quiet_sentencepiece();
  library_ = std::make_unique<sentencepiece::SentencePieceProcessor>();
  const auto status = library_->LoadFromSerializedProto(bytes_);
  if (!status.ok()) {
    throw Error(
        ExitCode::kBadInput, path,
        fmt::format("expected a SentencePiece model, the library says: {}", status.message()));
  }
}

void SentencePieceTokenizer::index_pieces() {
  cuts_words_ = model_.is_bpe && model_.byte_fallback && model_.keeps_text();
  spellings_.reserve(model_.pieces.size());
  special_.resize(model_.pieces.size());
  bar_ids_.resize(kBar.size(), -1);
  for (size_t i = 0; i < model_.pieces.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const SentencePieceEntry& piece = model_.pieces[i];
    joints_.add_piece(piece.text);
    if (is_reserved_name(piece.text)) guarded_.add(piece.text, id);
    if (piece.text == std::string_view("\0", 1)) nul_piece_id_ = id;
    special_[i] = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    if (piece.type == PieceType::kByte) {
      unsigned byte = 0;
      std::from_chars(piece.text.data() + 3, piece.text.data() + 5, byte, 16);
      spellings_.emplace_back(1, static_cast<char>(byte));
      if (byte == 0) nul_byte_id_ = id;
      for (size_t k = 0; k < kBar.size(); ++k) {
        if (static_cast<uint8_t>(kBar[k]) == byte) bar_ids_[k] = id;
      }
    } else {
      spellings_.push_back(special_[i] ? piece.text : with_spaces(piece.text));
    }
  }
  if (model_.byte_fallback) guarded_.add(kBar, kBarMark);
}

void SentencePieceTokenizer::add_special(const std::string& spelling, int32_t id,
                                         const std::string& path) {
  const auto pieces = static_cast<int32_t>(model_.pieces.size());
  if (id < 0 || id >= pieces + kMaxAddedIds) {
    throw Error(ExitCode::kBadInput, path,
                fmt::format("expected the id of special token {} in [0, {}), got {}", spelling,
                            pieces + kMaxAddedIds, id));
  }
  const bool own = id < pieces && model_.pieces[id].text == spelling;
  if (own && !is_reserved_name(spelling)) return;  // the model's own <s>, or ordinary text
  if (static_cast<size_t>(id) >= spellings_.size()) {
    spellings_.resize(static_cast<size_t>(id) + 1);
    special_.resize(spellings_.size(), true);
  }
  spellings_[id] = spelling;
  special_[id] = true;
  special_spellings_.add(spelling, id);
}

void SentencePieceTokenizer::add_chat_spellings(const std::string& path) {
  const auto id_of = [&](std::string_view name) -> int32_t {
    const int32_t id = library_->PieceToId(name);
    return model_.pieces[id].text == name ? id : -1;
  };
  for (const auto& [spelling, name] : kChatPieces) {
    if (const int32_t id = id_of(name); id >= 0) add_special(std::string(spelling), id, path);
  }
  for (const std::string_view name : kTurnPieces) {
    if (const int32_t id = id_of(name); id >= 0) add_special(std::string(name), id, path);
  }
}

void SentencePieceTokenizer::choose_special_ids(const SentencePieceOptions& options,
                                                const std::string& path) {
  const auto choose = [&](const std::string& name, int own) -> std::optional<int32_t> {
    if (!name.empty()) {
      for (size_t id = 0; id < spellings_.size(); ++id) {
        if (special_[id] && spellings_[id] == name) return static_cast<int32_t>(id);
      }
      throw Error(
          ExitCode::kBadInput, path,
          fmt::format("expected the special token {} in the vocabulary, it is not there", name));
    }
    if (own < 0) return std::nullopt;
    return own;
  };
  special_ids_ = {.bos = choose(options.bos, library_->bos_id()),
                  .eos = choose(options.eos, library_->eos_id()),
                  .pad = choose(options.pad, library_->pad_id()),
                  .unk = choose({}, library_->unk_id())};
}

void SentencePieceTokenizer::append_by_library(std::string_view text,
                                               std::vector<int32_t>& ids) const {
  std::vector<int> found;
  const auto status = library_->Encode(text, &found);
  CHECK(status.ok(), "SentencePiece could not encode {} bytes: {}", text.size(), status.message());
  // A NUL is its own piece where the model has one; newer libraries give the byte piece instead.
  for (const int id : found)
    ids.push_back(id == nul_byte_id_ && nul_piece_id_ >= 0 ? nul_piece_id_ : id);
}

void SentencePieceTokenizer::append_plain(std::string_view text, std::vector<int32_t>& ids) const {
  if (!cuts_words_ || find_invalid_utf8(text) != std::string_view::npos) {
    append_by_library(text, ids);
    return;
  }
  joints_.for_each_word(text, [&](std::string_view word) {
    if (cache_.append(word, ids)) return;
    const size_t before = ids.size();
    append_by_library(word, ids);
    cache_.remember(word, std::span(ids).subspan(before));
  });
}

void SentencePieceTokenizer::append_safe(std::string_view text, std::vector<int32_t>& ids) const {
  size_t begin = 0;
  size_t from = 0;
  while (const SpellingMatch match = guarded_.find(text, from)) {
    // A blocked spelling is cut after its first character; U+2581 goes in as its three bytes.
    const bool bar = match.id == kBarMark;
    const size_t end = bar ? match.begin : match.begin + 1;
    if (end > begin) append_plain(text.substr(begin, end - begin), ids);
    if (bar) ids.insert(ids.end(), bar_ids_.begin(), bar_ids_.end());
    begin = from = bar ? match.begin + match.length : end;
  }
  if (begin < text.size()) append_plain(text.substr(begin), ids);
}

std::string SentencePieceTokenizer::id_to_piece(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "id {} is outside of the vocabulary of {}", id, vocab_size());
  return static_cast<size_t>(id) < model_.pieces.size() ? model_.pieces[id].text : spellings_[id];
}

std::string_view SentencePieceTokenizer::piece_bytes(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "id {} is outside of the vocabulary of {}", id, vocab_size());
  return spellings_[id];
}

bool SentencePieceTokenizer::is_special(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "id {} is outside of the vocabulary of {}", id, vocab_size());
  return special_[id];
}

std::string SentencePieceTokenizer::decode_plain(std::span<const int32_t> ids) const {
  std::string text;
  const auto status = library_->Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  CHECK(status.ok(), "SentencePiece could not decode {} ids: {}", ids.size(), status.message());
  return text;
}

}  // namespace ink
