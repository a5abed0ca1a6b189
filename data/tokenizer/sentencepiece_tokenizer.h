// SentencePiece models: InternLM, InternLM2, Llama, and those that `data tokenizer` trains. The
// library does the merging; around it stand the validation of the file, the blocking of reserved
// pieces in foreign text, and a word cache for models whose text can be cut without changing an id.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/joint_table.h"
#include "data/tokenizer/sentencepiece_model.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/word_cache.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace ink {

struct SentencePieceOptions {
  bool adds_bos = true;
  // Spelling -> id of tokens that a tokenizer_config.json declares beside the model; an id may name
  // a piece of the model or lie behind its end.
  std::map<std::string, int32_t> added_tokens;
  // Names of bos, eos and pad where the model's own are overruled; empty: as the model says.
  std::string bos, eos, pad;
};

class SentencePieceTokenizer final : public Tokenizer {
 public:
  // Reads and checks the file: code 3 if it is absent, malformed or of an unsupported kind.
  [[nodiscard]] static std::unique_ptr<SentencePieceTokenizer> open(
      const std::string& path, const SentencePieceOptions& options = {});
  [[nodiscard]] static std::unique_ptr<SentencePieceTokenizer> from_bytes(
      std::string bytes, const std::string& path, const SentencePieceOptions& options = {});
  ~SentencePieceTokenizer() override;

  [[nodiscard]] int64_t vocab_size() const override {
    return static_cast<int64_t>(spellings_.size());
  }
  void append_plain(std::string_view text, std::vector<int32_t>& ids) const override;
  void append_safe(std::string_view text, std::vector<int32_t>& ids) const override;
  [[nodiscard]] std::string id_to_piece(int32_t id) const override;
  [[nodiscard]] std::string_view piece_bytes(int32_t id) const override;
  [[nodiscard]] bool is_special(int32_t id) const override;

  // The library's decoding of ids that encode_plain gave: reserved pieces keep the model's names.
  [[nodiscard]] std::string decode_plain(std::span<const int32_t> ids) const;

  [[nodiscard]] const SentencePieceModel& model() const { return model_; }
  [[nodiscard]] const std::string& model_bytes() const { return bytes_; }
  // The pieces that foreign text may not produce.
  [[nodiscard]] static bool is_reserved_name(std::string_view piece);

 private:
  SentencePieceTokenizer(std::string bytes, const std::string& path,
                         const SentencePieceOptions& options);
  void load_library(const std::string& path);
  void index_pieces();
  void add_special(const std::string& spelling, int32_t id, const std::string& path);
  void add_chat_spellings(const std::string& path);
  void choose_special_ids(const SentencePieceOptions& options, const std::string& path);
  void append_by_library(std::string_view text, std::vector<int32_t>& ids) const;
  [[nodiscard]] bool strips_first_space() const override { return model_.add_dummy_prefix; }

  std::string bytes_;
  SentencePieceModel model_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> library_;
  std::vector<std::string> spellings_;  // id -> bytes it adds to decoded text
  std::vector<bool> special_;
  SpellingTrie guarded_;          // blocked spellings, and U+2581 with the id kBarMark
  std::vector<int32_t> bar_ids_;  // the three byte pieces of U+2581
  int32_t nul_byte_id_ = -1, nul_piece_id_ = -1;
  bool cuts_words_ = false;
  JointTable joints_;
  mutable WordCache cache_;
};

}  // namespace ink
