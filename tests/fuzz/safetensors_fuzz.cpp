// The first byte chooses the layer: a whole header text, or the text of a config.json. Only Error
// may leave.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/core/error.h"
#include "engine/io/json.h"
#include "engine/io/safetensors_table.h"
#include "models/hub/config_json.h"
#include "models/hub/names.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] % 2 == 0) {
      const uint64_t data_bytes = data[0] / 2;
      const auto table = ink::SafetensorsTable::parse(text, data_bytes, "fuzz");
      for (const ink::SafetensorsEntry& entry : table.entries()) {
        if (entry.end > data_bytes || entry.numel() < 0) __builtin_trap();
      }
    } else {
      const ink::HfConfig config = ink::parse_config_json(ink::parse_json(text, "fuzz"), "fuzz");
      if (config.model.num_hidden_layers < 4) {
        (void)ink::hf_tensors(ink::hf_parameter_maps(config.model, ink::HfNames::kInternLM2));
      }
    }
  } catch (const ink::Error& error) {
    if (error.code() == ink::ExitCode::kInternal) __builtin_trap();
  }
  return 0;
}
