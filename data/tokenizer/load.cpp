#include "data/tokenizer/load.h"

#include <filesystem>

#include "data/tokenizer/bpe_tokenizer.h"
#include "data/tokenizer/sentencepiece_tokenizer.h"
#include "data/tokenizer/tokenizer_config.h"
#include "engine/core/error.h"

namespace ink {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

std::unique_ptr<Tokenizer> load_directory(const std::string& path) {
  const SafeDirectory directory(path);
  const bool has_model = directory.has("tokenizer.model");
  if (!has_model && !directory.has("tokenizer.json")) {
    throw Error(ExitCode::kBadInput, path,
                "expected tokenizer.model or tokenizer.json in this directory, got neither");
  }
  const TokenizerConfig config = read_tokenizer_config(directory);
  const File file = directory.open(has_model ? "tokenizer.model" : "tokenizer.json");
  const std::string bytes = read_text(file, kMaxFileBytes);
  if (has_model) {
    return SentencePieceTokenizer::from_bytes(bytes, file.place(), sentencepiece_options(config));
  }
  return BpeTokenizer::from_json(bytes, file.place(),
                                 {.bos = config.bos,
                                  .eos = config.eos,
                                  .pad = config.pad,
                                  .adds_bos = config.add_bos.value_or(false)});
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  std::error_code status;
  if (std::filesystem::is_directory(path, status)) return load_directory(path);
  if (path.ends_with(".json")) return BpeTokenizer::open(path);
  return SentencePieceTokenizer::open(path);
}

void check_vocabulary(const Tokenizer& tokenizer, int64_t model_vocab_size,
                      const std::string& place) {
  if (tokenizer.vocab_size() <= model_vocab_size) return;
  throw Error(ExitCode::kBadInput, place,
              fmt::format("expected a vocab_size of at least {} for the tokenizer's ids, got {}",
                          tokenizer.vocab_size(), model_vocab_size));
}

}  // namespace ink
