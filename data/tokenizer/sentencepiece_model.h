// The parts of a SentencePiece model file (a protobuf) that we rely on, read by a small bounded
// walk before the library sees the bytes: the library of Debian 12 crashes on crafted models.
// Accepted are BPE and unigram models with the identity normaliser; everything else is code 3 with
// the file's name. Field numbers: sentencepiece_model.proto of the public library.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ink {

enum class PieceType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct SentencePieceEntry {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct SentencePieceModel {
  std::vector<SentencePieceEntry> pieces;  // index = id
  bool is_bpe = false;
  bool byte_fallback = false;
  bool add_dummy_prefix = true;  // the library's defaults where the file is silent
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;

  // Text reaches the merges unchanged but for space -> U+2581.
  [[nodiscard]] bool keeps_text() const {
    return !add_dummy_prefix && !remove_extra_whitespaces && escape_whitespaces;
  }
};

// path is for messages only.
[[nodiscard]] SentencePieceModel parse_sentencepiece_model(std::string_view bytes,
                                                           const std::string& path);

}  // namespace ink
