#include "models/hub/describe.h"

#include <algorithm>
#include <map>

#include "engine/core/error.h"
#include "engine/io/json.h"
#include "engine/io/safetensors_reader.h"
#include "models/hub/config_json.h"
#include "models/hub/hf_directory.h"
#include "models/hub/import.h"

namespace ink {
namespace {

using nlohmann::ordered_json;
constexpr int64_t kChunkElements = 1 << 20;

ordered_json tensor_line(const SafetensorsEntry& entry) {
  return {{"name", entry.name},
          {"dtype", entry.dtype->name},
          {"shape", entry.shape},
          {"bytes", entry.bytes()}};
}

// Sums over tensors, in order of their names.
class Totals {
 public:
  void add(const SafetensorsEntry& entry) {
    elements_ += entry.numel();
    by_dtype_[std::string(entry.dtype->name)] += entry.numel();
  }
  void put(ordered_json& into) const {
    into["parameters"] = elements_;
    into["dtypes"] = by_dtype_;
  }

 private:
  int64_t elements_ = 0;
  std::map<std::string, int64_t> by_dtype_;
};

void require_finite(const SafetensorsReader& file, const SafetensorsEntry& entry) {
  if (!entry.dtype->native || !is_float(*entry.dtype->native)) return;
  const DType dtype = *entry.dtype->native;
  std::vector<std::byte> chunk;
  int64_t nonfinite = 0;
  for (int64_t done = 0; done < entry.numel(); done += kChunkElements) {
    const int64_t count = std::min(kChunkElements, entry.numel() - done);
    chunk.resize(static_cast<size_t>(count * size_of(dtype)));
    file.read(entry, static_cast<uint64_t>(done * size_of(dtype)), chunk);
    nonfinite += value_stats(chunk.data(), dtype, count).nonfinite;
  }
  if (nonfinite > 0) {
    throw Error(ExitCode::kBadInput,
                fmt::format("{}: tensor {}", file.place(), quote_name(entry.name)),
                fmt::format("expected finite values, got {} of {} that are NaN or infinite",
                            nonfinite, entry.numel()));
  }
}

ordered_json describe_file(const std::filesystem::path& path, DescribeMode mode) {
  const SafetensorsReader file = SafetensorsReader::open(path);
  ordered_json result{
      {"kind", "safetensors"}, {"path", path.string()}, {"bytes", file.file().size()}};
  result["metadata"] = file.table().metadata();
  Totals totals;
  ordered_json tensors = ordered_json::array();
  for (const SafetensorsEntry& entry : file.table().entries()) {
    totals.add(entry);
    tensors.push_back(tensor_line(entry));
    if (mode == DescribeMode::kVerify) require_finite(file, entry);
  }
  totals.put(result);
  if (mode == DescribeMode::kVerify) result["verified"] = true;
  result["tensors"] = std::move(tensors);
  return result;
}

template <class E>
std::string_view choice_name(E value) {
  for (const auto& choice : Choices<E>::kBuilt) {
    if (choice.value == value) return choice.name;
  }
  throw InternalError(fmt::format("no name for choice {}", static_cast<int>(value)));
}

ordered_json describe_directory(const std::filesystem::path& path, DescribeMode mode) {
  const HfDirectory directory(path);
  const HfConfig config = read_config_json(directory.files());
  ordered_json result{{"kind", "huggingface"}, {"path", path.string()}};
  uint64_t bytes = 0;
  ordered_json files = ordered_json::array(), tensors = ordered_json::array();
  for (const SafetensorsReader& file : directory.weight_files()) {
    bytes += file.file().size();
    files.push_back({{"path", file.place()}, {"bytes", file.file().size()}});
  }
  Totals totals;
  for (const auto& [name, location] : directory.tensors()) {
    totals.add(*location.entry);
    ordered_json line = tensor_line(*location.entry);
    line["file"] = location.file->place();
    tensors.push_back(std::move(line));
    if (mode == DescribeMode::kVerify) require_finite(*location.file, *location.entry);
  }
  Notices notices = config.notices;
  notices.insert(notices.end(), directory.notices().begin(), directory.notices().end());
  if (mode == DescribeMode::kVerify) (void)check_import(directory, config.model);

  result["bytes"] = bytes;
  result["files"] = std::move(files);
  totals.put(result);
  result["model"] = describe_model(config.model);
  result["names"] = directory.names() == HfNames::kLlama ? "llama" : "internlm2";
  result["stop_ids"] = read_stop_ids(directory.files(), config.model);
  result["notices"] = notices;
  if (mode == DescribeMode::kVerify) result["verified"] = true;
  result["tensors"] = std::move(tensors);
  return result;
}

}  // namespace

ordered_json describe_model(const ModelOptions& m) {
  return {{"family", choice_name(m.family)},
          {"parameters", parameter_count(m)},
          {"hidden_size", m.hidden_size},
          {"intermediate_size", m.intermediate_size},
          {"num_hidden_layers", m.num_hidden_layers},
          {"num_attention_heads", m.num_attention_heads},
          {"num_key_value_heads", m.num_key_value_heads},
          {"head_dim", m.head_dim},
          {"vocab_size", m.vocab_size},
          {"max_position_embeddings", m.max_position_embeddings},
          {"rms_norm_eps", m.rms_norm_eps},
          {"rope_theta", m.rope_theta},
          {"rope_scaling", choice_name(m.rope_scaling.type)},
          {"rope_factor", m.rope_scaling.factor},
          {"qkv_bias", m.qkv_bias},
          {"o_bias", m.o_bias},
          {"mlp_bias", m.mlp_bias},
          {"tie_word_embeddings", m.tie_word_embeddings}};
}

ordered_json describe(const std::filesystem::path& path, DescribeMode mode) {
  std::error_code failed;
  return std::filesystem::is_directory(path, failed) ? describe_directory(path, mode)
                                                     : describe_file(path, mode);
}

}  // namespace ink
