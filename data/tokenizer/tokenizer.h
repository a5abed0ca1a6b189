// Text to token ids and back, for every part that reads or shows text: data preparation,
// generation, chat, evaluation. A tokenizer is immutable after loading; every const member may be
// called from several threads at once.
//
// Three ways to encode, none of which adds BOS or EOS:
//   encode_plain     what the tokenizer's public library gives for the whole text in one call;
//   encode           foreign text (documents, user, system and tool text): no special id can come
//   out,
//                    and decode(encode(text)) == text up to the tokenizer's own normalisation;
//   encode_template  template text with foreign text in it: special spellings count in template
//   text
//                    only; what lies between two of them is one run of encode.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/spelling_trie.h"

namespace ink {

enum class TextOrigin { kTemplate, kForeign };

struct TextSegment {
  std::string_view text;
  TextOrigin origin = TextOrigin::kForeign;
};

enum class Specials { kKeep, kSkip };

// Ids with a role; absent where the tokenizer has none.
struct SpecialIds {
  std::optional<int32_t> bos, eos, pad, unk;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // One past the largest id. A model's table may be larger, never smaller.
  [[nodiscard]] virtual int64_t vocab_size() const = 0;

  [[nodiscard]] std::vector<int32_t> encode_plain(std::string_view text) const;
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text) const;
  [[nodiscard]] std::vector<int32_t> encode_template(std::span<const TextSegment> segments) const;

  // The same, appended to ids: what a loop over documents calls.
  virtual void append_plain(std::string_view text, std::vector<int32_t>& ids) const = 0;
  virtual void append_safe(std::string_view text, std::vector<int32_t>& ids) const = 0;

  // Valid UTF-8: bytes that form no character become U+FFFD. Ids outside of the vocabulary are
  // refused.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, Specials specials) const;

  // The vocabulary's own name of an id, such as "▁the" or "<0x0A>".
  [[nodiscard]] virtual std::string id_to_piece(int32_t id) const = 0;
  // The bytes an id adds to the decoded text; may be part of a character. Special ids give their
  // spelling.
  [[nodiscard]] virtual std::string_view piece_bytes(int32_t id) const = 0;
  [[nodiscard]] virtual bool is_special(int32_t id) const = 0;

  [[nodiscard]] const SpecialIds& special_ids() const { return special_ids_; }
  // Id of a special spelling such as "<|im_end|>".
  [[nodiscard]] std::optional<int32_t> special_id(std::string_view spelling) const;
  // Whether text for a model starts with BOS unless a template writes it.
  [[nodiscard]] bool adds_bos() const { return adds_bos_; }
  // SHA-256 (hex) of the files that define the ids.
  [[nodiscard]] const std::string& content_hash() const { return content_hash_; }

 protected:
  Tokenizer() = default;

  // Whether decoding drops one leading space (the inverse of a dummy prefix).
  [[nodiscard]] virtual bool strips_first_space() const { return false; }

  SpellingTrie special_spellings_;  // what template text is cut at
  SpecialIds special_ids_;
  bool adds_bos_ = false;
  std::string content_hash_;
};

}  // namespace ink
