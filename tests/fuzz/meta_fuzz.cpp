// The .meta parser: any bytes give rows that lie inside of the file, or Error 3.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "data/store/internevo.h"
#include "engine/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kBinSize = 4096;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    for (const ink::MetaRow& row : ink::parse_internevo_meta(bytes, "fuzz.meta", kBinSize))
      if (row.offset < 0 || row.offset >= kBinSize || row.tokens <= 0) std::abort();
  } catch (const ink::Error& error) {
    if (error.code() != ink::ExitCode::kBadInput) std::abort();
  }
  return 0;
}
