// The token store behind the HDF5 library: a valid store with bytes overwritten is read completely,
// or is Error 3. The input is a list of (offset, value) patches, so that the mutations stay inside
// of the format.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "data/store/token_store.h"
#include "data/store/token_store_writer.h"
#include "engine/core/error.h"

namespace {

namespace fs = std::filesystem;

fs::path scratch(const char* name) {
  return fs::temp_directory_path() / ("inkstone-fuzz-" + std::to_string(::getpid()) + name);
}

std::string valid_store() {
  const fs::path path = scratch("-valid.h5");
  ink::StoreHeader header{.vocab_size = 100,
                          .tokenizer_hash = "",
                          .seed = 1,
                          .max_length = 8,
                          .eval_fraction = 0.2,
                          .sources = {{"fuzz", ""}},
                          .content_hash = ""};
  {
    ink::TokenStoreWriter writer(path, header);
    for (int32_t d = 0; d < 12; ++d)
      writer.append(
          {.ids = {1, d + 3, d + 4, 2}, .untrained = {1, 0, 0, 0}, .source = 0, .origin = d});
    writer.finish();
  }
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  fs::remove(path);
  return bytes;
}

}  // namespace

// HDF5 1.10 itself does not free object headers that it refuses half-way.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5_serial\n"; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string whole = valid_store();
  static const fs::path path = scratch(".h5");
  std::string bytes = whole;
  for (size_t i = 0; i + 4 <= size; i += 4) {
    const size_t at =
        (size_t{data[i]} << 16 | size_t{data[i + 1]} << 8 | data[i + 2]) % bytes.size();
    bytes[at] = static_cast<char>(data[i + 3]);
  }
  std::ofstream(path, std::ios::binary) << bytes;
  try {
    ink::TokenStore::open(path)->verify();
  } catch (const ink::Error& error) {
    if (error.code() != ink::ExitCode::kBadInput) std::abort();
  }
  return 0;
}
