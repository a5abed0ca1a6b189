#include "models/hub/export.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/core/error.h"
#include "engine/io/json.h"
#include "engine/io/safetensors_writer.h"
#include "models/hub/remote_code.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
constexpr int64_t kChunkElements = 1 << 20;
constexpr double kMaxF16 = 65504;

void write_text(const fs::path& path, std::string_view text) {
  FileWriter file(path);
  file.write(text);
  file.close();
}

void write_json(const fs::path& path, const ordered_json& document) {
  write_text(path, document.dump(2) + "\n");
}

uint64_t bytes_of(const HfTensor& tensor, DType dtype) {
  return static_cast<uint64_t>(tensor.shape.numel() * size_of(dtype));
}

// Cuts the list where a shard would grow beyond `limit`; a larger tensor has a shard for itself.
std::vector<std::span<const HfTensor>> shards_of(std::span<const HfTensor> tensors, DType dtype,
                                                 uint64_t limit) {
  std::vector<std::span<const HfTensor>> shards;
  size_t first = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t size = bytes_of(tensors[i], dtype);
    if (i > first && bytes + size > limit) {
      shards.push_back(tensors.subspan(first, i - first));
      first = i;
      bytes = 0;
    }
    bytes += size;
  }
  shards.push_back(tensors.subspan(first));
  return shards;
}

class WeightExport {
 public:
  WeightExport(const ModelOptions& model, HfNames names, std::span<const NamedTensor> weights,
               DType dtype)
      : maps_(hf_parameter_maps(model, names)), tensors_(hf_tensors(maps_)), dtype_(dtype) {
    std::map<std::string_view, const Tensor*> sources;
    for (const NamedTensor& weight : weights) sources[weight.name] = &weight.value;
    CHECK(sources.size() == maps_.size(), "{} parameters for a model of {}", sources.size(),
          maps_.size());
    for (const ParameterMap& map : maps_) {
      const auto source = sources.find(map.name);
      CHECK(source != sources.end() && source->second->shape() == map.shape &&
                source->second->contiguous(),
            "parameter {} of shape {} is not there", map.name, map.shape.str());
      sources_.push_back(source->second);
    }
  }

  void run(const fs::path& directory, uint64_t max_shard_bytes, ExportReport& report) {
    const auto shards = shards_of(tensors_, dtype_, max_shard_bytes);
    ordered_json weight_map;
    uint64_t total = 0;
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string name = shards.size() == 1 ? "model.safetensors"
                                                  : fmt::format("model-{:05}-of-{:05}.safetensors",
                                                                i + 1, shards.size());
      const WrittenFile written = write_shard(directory / name, shards[i], report.notices);
      report.weight_files.push_back({name, written.sha256, written.bytes});
      for (const HfTensor& tensor : shards[i]) {
        weight_map[tensor.name] = name;
        total += bytes_of(tensor, dtype_);
      }
    }
    if (shards.size() > 1) {
      write_json(directory / "model.safetensors.index.json",
                 {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}});
    }
  }

 private:
  WrittenFile write_shard(const fs::path& path, std::span<const HfTensor> tensors,
                          Notices& notices) {
    std::vector<SafetensorsSpec> specs;
    for (const HfTensor& tensor : tensors) specs.push_back({tensor.name, dtype_, tensor.shape});
    SafetensorsWriter writer(path, std::move(specs));
    for (const HfTensor& tensor : tensors) {
      ValueStats before, after;
      for (const HfPiece& piece : tensor.pieces) write_piece(writer, tensor, piece, before, after);
      check_range(tensor, before, after, notices);
    }
    return writer.finish();
  }

  void write_piece(SafetensorsWriter& writer, const HfTensor& tensor, const HfPiece& piece,
                   ValueStats& before, ValueStats& after) {
    const Tensor& source = *sources_[piece.parameter];
    const int64_t width = row_width(tensor.shape), total = piece.rows.count * width;
    for (int64_t done = 0; done < total; done += kChunkElements) {
      const int64_t count = std::min(kChunkElements, total - done);
      raw_.resize(static_cast<size_t>(count * size_of(source.dtype())));
      ready_.resize(static_cast<size_t>(count * size_of(dtype_)));
      const char* place = static_cast<const char*>(source.raw()) +
                          (piece.rows.local_row * width + done) * size_of(source.dtype());
      source.runtime().backend().copy_to_host(raw_.data(), place,
                                              static_cast<int64_t>(raw_.size()));
      convert_elements(raw_.data(), source.dtype(), ready_.data(), dtype_, count);
      before.merge(value_stats(raw_.data(), source.dtype(), count));
      after.merge(value_stats(ready_.data(), dtype_, count));
      writer.write(tensor.name, ready_);
    }
  }

  // A finite weight must stay finite, and whoever serves in f16 should know what will not.
  void check_range(const HfTensor& tensor, const ValueStats& before, const ValueStats& after,
                   Notices& notices) const {
    if (after.nonfinite > before.nonfinite) {
      throw Error(
          ExitCode::kConfig, "export as " + std::string(name_of(dtype_)),
          fmt::format("expected values up to {}, got {} in {}",
                      dtype_ == DType::kF16 ? kMaxF16 : 3.38e38, before.max_abs, tensor.name),
          "export as bf16 or f32");
    }
    if (before.nonfinite > 0)
      notices.push_back(
          fmt::format("{}: {} values are NaN or infinite", tensor.name, before.nonfinite));
    if (dtype_ != DType::kF16 && before.max_abs > kMaxF16) {
      notices.push_back(fmt::format("{}: the largest value, {}, is beyond the range of f16",
                                    tensor.name, before.max_abs));
    }
  }

  std::vector<ParameterMap> maps_;
  std::vector<HfTensor> tensors_;
  std::vector<const Tensor*> sources_;
  DType dtype_;
  std::vector<std::byte> raw_, ready_;
};

}  // namespace

ExportReport write_hf(const fs::path& directory, const ModelOptions& model,
                      std::span<const NamedTensor> weights, const ExportOptions& options) {
  const HfClass hf_class = options.hf_class.value_or(default_hf_class(model.family));
  ordered_json config = write_config_json(model, hf_class, options.dtype);
  std::optional<RemoteCode> code;
  if (hf_class == HfClass::kInternLM2) {
    code = read_remote_code(options.remote_code_from);
    config["auto_map"] = code->auto_map;
  }

  ExportReport report;
  AtomicDirectory target(directory, options.existing);
  WeightExport(model, hf_names_of(hf_class), weights, options.dtype)
      .run(target.path(), options.max_shard_bytes, report);
  write_json(target.path() / "config.json", config);
  write_json(target.path() / "generation_config.json",
             write_generation_config(model, options.stop_ids));
  if (code) {
    for (const auto& [name, text] : code->files) write_text(target.path() / name, text);
  }
  if (options.write_more) options.write_more(target.path());
  target.commit();
  return report;
}

}  // namespace ink
