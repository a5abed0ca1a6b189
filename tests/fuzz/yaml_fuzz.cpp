// Any bytes as a run file: either options that dump and read back equal, or one Error of code 2.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "configs/schema/run_file.h"
#include "configs/schema/yaml_reader.h"
#include "engine/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const ink::RunOptions run = ink::read_run(ink::parse_yaml(text, "fuzz.yaml")).options;
    const std::string dumped = ink::dump_run(run);
    if (!(ink::read_run(ink::parse_yaml(dumped, "dump.yaml")).options == run)) std::abort();
  } catch (const ink::Error& error) {
    if (error.code() != ink::ExitCode::kConfig) std::abort();
  }
  return 0;
}
