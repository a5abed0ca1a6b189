// Trains a SentencePiece model the way `inkstone data tokenizer` promises: BPE, identity
// normaliser, no dummy prefix, extra spaces kept, byte fallback, ids unk 0, bos 1, eos 2, no pad.
// The sample is a deterministic, uniform choice of documents: the same texts, order and seed give
// the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ink {

struct SentencePieceTraining {
  int64_t vocab_size = 32000;
  double character_coverage = 0.9995;  // rarer characters are left to the byte pieces
  int threads = 1;
};

// Keeps a uniform sample of at most `limit` bytes out of a stream of documents of unknown length:
// those whose hash of (seed, index) is smallest.
class TextSample {
 public:
  explicit TextSample(size_t limit, uint64_t seed = 0) : limit_(limit), seed_(seed) {}

  void add(std::string_view document);
  [[nodiscard]] size_t bytes() const { return bytes_; }
  // The chosen documents in the order in which they came; empties the sample.
  [[nodiscard]] std::vector<std::string> take();

 private:
  struct Chosen {
    uint64_t hash;
    int64_t index;
    std::string text;
    bool operator<(const Chosen& other) const { return hash < other.hash; }
  };
  size_t limit_;
  uint64_t seed_;
  size_t bytes_ = 0;
  int64_t seen_ = 0;
  uint64_t bound_ = ~uint64_t{0};  // hashes at or above it came too late
  std::vector<Chosen> heap_;       // largest hash first
};

// The bytes of a tokenizer.model. Code 2 if the text cannot give that many pieces, code 3 if there
// is no text.
[[nodiscard]] std::string train_sentencepiece(const std::vector<std::string>& documents,
                                              const SentencePieceTraining& options);

}  // namespace ink
