// Byte-pair encoding from a tokenizer.json: byte-level (GPT-2, Llama 3, Qwen2, SmolLM2) and
// SentencePiece-like with byte fallback (what our own export writes).
//
// encode_plain finds every added token in the text. encode (foreign text) finds only those that are
// ordinary pieces of the model: neither special nor added behind its vocabulary.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizer/bpe_merger.h"
#include "data/tokenizer/joint_table.h"
#include "data/tokenizer/regex_splitter.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_json.h"
#include "data/tokenizer/word_cache.h"

namespace ink {

// Names that tokenizer_config.json gives; empty: none.
struct BpeOptions {
  std::string bos, eos, pad;
  bool adds_bos = false;  // where the post-processor says nothing
};

class BpeTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] static std::unique_ptr<BpeTokenizer> open(const std::string& path,
                                                          const BpeOptions& options = {});
  // text: the contents of a tokenizer.json; place: its name in messages.
  [[nodiscard]] static std::unique_ptr<BpeTokenizer> from_json(std::string_view text,
                                                               const std::string& place,
                                                               const BpeOptions& options = {});

  [[nodiscard]] int64_t vocab_size() const override { return static_cast<int64_t>(pieces_.size()); }
  void append_plain(std::string_view text, std::vector<int32_t>& ids) const override;
  void append_safe(std::string_view text, std::vector<int32_t>& ids) const override;
  [[nodiscard]] std::string id_to_piece(int32_t id) const override;
  [[nodiscard]] std::string_view piece_bytes(int32_t id) const override;
  [[nodiscard]] bool is_special(int32_t id) const override;

 private:
  // Added tokens, by when they are searched: before or after normalisation.
  struct AddedSets {
    SpellingTrie raw, normalized;
  };

  BpeTokenizer(TokenizerSpec spec, const std::string& place, const BpeOptions& options);
  void index_added(const std::vector<AddedToken>& added, int64_t model_pieces);
  void index_symbols(const TokenizerSpec& spec, const std::string& place);
  void choose_special_ids(const TokenizerSpec& spec, const std::string& place,
                          const BpeOptions& options);
  void append(std::string_view text, const AddedSets& added, std::vector<int32_t>& ids) const;
  void append_normalized(std::string_view text, const AddedSets& added,
                         std::vector<int32_t>& ids) const;
  void append_words(std::string_view text, size_t split, std::vector<int32_t>& ids) const;
  void append_word(std::string_view word, std::vector<int32_t>& ids) const;
  void append_merged(std::string_view word, std::vector<int32_t>& ids) const;
  [[nodiscard]] bool strips_first_space() const override { return strips_first_space_; }

  std::vector<std::string> pieces_;  // id -> name in the vocabulary
  std::vector<std::string> bytes_;   // id -> what it adds to decoded text
  std::vector<bool> special_;
  bool byte_level_, ignore_merges_, strips_first_space_;
  bool cuts_words_ = false;  // byte fallback: words end where no piece joins
  TextNormalizer normalizer_;
  std::vector<RegexSplitter> splits_;
  BpeMerger merger_;
  AddedSets plain_, safe_;
  std::vector<int32_t> byte_ids_;                        // byte -> id, -1: none
  std::unordered_map<uint32_t, int32_t> character_ids_;  // byte fallback only
  std::unordered_map<std::string_view, int32_t>
      whole_words_;  // ignore_merges only; views of bytes_
  JointTable joints_;
  mutable WordCache cache_;
};

}  // namespace ink
