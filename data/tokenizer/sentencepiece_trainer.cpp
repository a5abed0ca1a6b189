#include "data/tokenizer/sentencepiece_trainer.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "data/tokenizer/quiet_sentencepiece.h"
#include "engine/core/error.h"

namespace ink {
namespace {

// The finaliser of splitmix64: a bijection, so no two documents tie.
uint64_t scrambled(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

// Hands the lines of the documents to the trainer one by one.
class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::vector<std::string>& documents) : documents_(documents) {
    find_line();
  }

  bool done() const override { return document_ == documents_.size(); }
  void Next() override { find_line(); }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  void find_line() {
    while (document_ < documents_.size()) {
      const std::string& text = documents_[document_];
      if (at_ >= text.size()) {
        ++document_;
        at_ = 0;
        continue;
      }
      const size_t end = std::min(text.find('\n', at_), text.size());
      line_.assign(text, at_, end - at_);
      at_ = end + 1;
      if (!line_.empty()) return;
    }
  }

  const std::vector<std::string>& documents_;
  size_t document_ = 0, at_ = 0;
  std::string line_;
};

// The library's words behind the place in its source: `./src/x.cc(580) [condition] words`.
[[noreturn]] void refuse_vocabulary(int64_t size, std::string_view message) {
  if (const size_t end = message.rfind("] "); end != std::string_view::npos)
    message.remove_prefix(end + 2);
  const bool too_small = message.find("smaller than required_chars") != std::string_view::npos;
  if (too_small) message = message.substr(0, message.find(". Increase"));
  throw Error(
      ExitCode::kConfig, "--vocab-size",
      fmt::format("expected a vocabulary that holds the characters of the text and that the "
                  "text can fill, got {}: {}",
                  size, message),
      too_small ? "choose a larger --vocab-size or a lower --coverage"
                : "choose a smaller --vocab-size or give more text");
}

}  // namespace

void TextSample::add(std::string_view document) {
  const int64_t index = seen_++;
  const uint64_t hash = scrambled(static_cast<uint64_t>(index) + seed_ * 0x9E3779B97F4A7C15u + 1);
  if (hash >= bound_) return;
  heap_.push_back({hash, index, std::string(document)});
  std::push_heap(heap_.begin(), heap_.end());
  bytes_ += document.size();
  while (bytes_ > limit_ && heap_.size() > 1) {
    std::pop_heap(heap_.begin(), heap_.end());
    bound_ = heap_.back().hash;
    bytes_ -= heap_.back().text.size();
    heap_.pop_back();
  }
}

std::vector<std::string> TextSample::take() {
  std::sort(heap_.begin(), heap_.end(),
            [](const Chosen& a, const Chosen& b) { return a.index < b.index; });
  std::vector<std::string> texts;
  texts.reserve(heap_.size());
  for (Chosen& chosen : heap_) texts.push_back(std::move(chosen.text));
  *this = TextSample(limit_, seed_);
  return texts;
}

std::string train_sentencepiece(const std::vector<std::string>& documents,
                                const SentencePieceTraining& options) {
  quiet_sentencepiece();
  LineIterator lines(documents);
  if (lines.done())
    throw Error(ExitCode::kBadInput, "data tokenizer", "expected text to train on, got none");
  const std::unordered_map<std::string, std::string> settings{
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"character_coverage", fmt::format("{}", options.character_coverage)},
      {"num_threads", std::to_string(options.threads)},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"byte_fallback", "true"},
      {"unk_id", "0"},
      {"bos_id", "1"},
      {"eos_id", "2"},
      {"pad_id", "-1"},
      {"max_sentence_length", "65536"},
      {"minloglevel", "3"},
  };
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &lines, &model);
  if (!status.ok()) refuse_vocabulary(options.vocab_size, status.message());
  return model;
}

}  // namespace ink
