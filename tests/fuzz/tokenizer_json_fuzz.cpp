// A tokenizer.json from a stranger: accepted or refused with code 3, and what is accepted encodes
// any text.
#include <string_view>

#include "data/tokenizer/bpe_tokenizer.h"
#include "engine/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = ink::BpeTokenizer::from_json(text, "fuzz");
    static_cast<void>(
        tokenizer->decode(tokenizer->encode("A b, 12 \xC3\xA9\n"), ink::Specials::kKeep));
  } catch (const ink::Error& error) {
    if (error.code() != ink::ExitCode::kBadInput) throw;
  }
  return 0;
}
