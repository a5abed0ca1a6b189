#include "launch/verbs/inspect_paths.h"

#include <algorithm>
#include <map>

#include "configs/schema/gallery.h"
#include "configs/schema/run_file.h"
#include "data/store/token_store.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "engine/io/safetensors_reader.h"
#include "models/hub/describe.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr uint64_t kTail = 1 << 16;  // bytes at the end of metrics.jsonl that are looked at

ordered_json tensor_lines(const Manifest& manifest) {
  ordered_json lines = ordered_json::array();
  for (const ManifestTensor& tensor : manifest.tensors) {
    lines.push_back(
        {{"name", tensor.name},
         {"dtype", file_dtype_of(tensor.dtype).name},
         {"shape", std::vector<int64_t>(tensor.shape.sizes().begin(), tensor.shape.sizes().end())},
         {"bytes", tensor.shape.numel() * size_of(tensor.dtype)},
         {"file", tensor.file}});
  }
  return lines;
}

// The counters of the trainer section; its nested objects are left out.
ordered_json scalars_of(const nlohmann::json& object) {
  ordered_json scalars = ordered_json::object();
  for (const auto& [key, value] : object.items())
    if (value.is_number()) scalars[key] = value;
  return scalars;
}

ordered_json writer_object(const WriterInfo& writer) {
  return {{"version", writer.version}, {"instruction_set", writer.instruction_set},
          {"device", writer.device},   {"libraries", writer.libraries},
          {"threads", writer.threads}, {"layout", writer.layout}};
}

// "best", "loss_spike": only what is there.
void add_marks(ordered_json& row, const CheckpointMarks& marks) {
  if (marks.best) row["best"] = {{"step", marks.best->step}, {"eval_loss", marks.best->eval_loss}};
  if (!marks.loss_spike.is_null()) row["loss_spike"] = marks.loss_spike;
}

ordered_json split_object(const SplitSizes& sizes) {
  return {{"documents", sizes.documents},
          {"tokens", sizes.tokens},
          {"trained", sizes.trained},
          {"packs", sizes.packs}};
}

// The newest complete `step` row; null when there is none.
ordered_json last_step_row(const fs::path& metrics) {
  const File file = File::open(metrics);
  const uint64_t begin = file.size() > kTail ? file.size() - kTail : 0;
  std::string text(file.size() - begin, '\0');
  file.read(begin, std::as_writable_bytes(std::span(text)));
  for (size_t end = text.rfind('\n'); end != std::string::npos && end > 0;) {
    const size_t start = text.rfind('\n', end - 1);
    const size_t first = start == std::string::npos ? 0 : start + 1;
    const auto row = ordered_json::parse(text.substr(first, end - first), nullptr, false);
    if (row.is_object() && row.value("event", "") == "step") return row;
    end = start;
  }
  return nullptr;
}

}  // namespace

ordered_json describe_checkpoint(const fs::path& path, Verify verify) {
  const OpenedCheckpoint checkpoint = open_checkpoint(path, verify == Verify::kYes);
  const Manifest& m = checkpoint.manifest;
  ordered_json result{{"kind", "checkpoint"}, {"path", checkpoint.path.string()},
                      {"step", m.step},       {"run_id", m.run_id},
                      {"created", m.created}, {"writer", writer_object(m.writer)}};
  uint64_t bytes = 0;
  ordered_json files = ordered_json::array();
  for (const ManifestFile& file : m.files) {
    bytes += file.bytes;
    files.push_back({{"path", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  int64_t parameters = 0;
  std::map<std::string, int64_t> dtypes;
  for (const ManifestTensor& tensor : m.tensors) {
    if (!tensor.name.starts_with("param/")) continue;
    parameters += tensor.shape.numel();
    dtypes[std::string(file_dtype_of(tensor.dtype).name)] += tensor.shape.numel();
  }
  const bool hf = fs::exists(path / "hf" / "config.json");
  if (hf && verify == Verify::kYes)
    static_cast<void>(describe(checkpoint.path / "hf", DescribeMode::kVerify));
  result["bytes"] = bytes;
  result["files"] = std::move(files);
  result["parameters"] = parameters;
  result["dtypes"] = dtypes;
  result["trainer"] = scalars_of(m.trainer);
  add_marks(result, marks_of(m.trainer, checkpoint.path.string()));
  result["hf"] = hf;
  if (verify == Verify::kYes) result["verified"] = true;
  result["tensors"] = tensor_lines(m);
  return result;
}

ordered_json describe_run_directory(const fs::path& path, Verify verify) {
  ordered_json result{{"kind", "run"}, {"path", path.string()}};
  ordered_json checkpoints = ordered_json::array();
  const std::vector<FoundCheckpoint> all = find_checkpoints(path);
  // The newest one that is whole knows which the best is.
  const auto newest = std::ranges::find(all, "", &FoundCheckpoint::problem);
  const std::optional<BestSave> best = newest == all.end() ? std::nullopt : newest->marks.best;
  for (const FoundCheckpoint& found : all) {
    if (verify == Verify::kYes) static_cast<void>(open_checkpoint(found.path));
    ordered_json row{
        {"name", found.path.filename().string()}, {"step", found.step}, {"problem", found.problem}};
    if (best && best->step == found.step) row["best"] = true;
    if (!found.marks.loss_spike.is_null()) row["loss_spike"] = true;
    checkpoints.push_back(std::move(row));
  }
  if (const fs::path config = path / "run.yaml"; fs::exists(config))
    result["model"] = describe_config(config)["model"];
  add_marks(result, {.best = best, .loss_spike = nullptr});
  result["checkpoints"] = std::move(checkpoints);
  if (const fs::path metrics = path / "metrics.jsonl"; fs::exists(metrics))
    result["last_step"] = last_step_row(metrics);
  if (verify == Verify::kYes) result["verified"] = true;
  return result;
}

ordered_json describe_store(const fs::path& path, Verify verify) {
  const auto store = TokenStore::open(path);
  if (verify == Verify::kYes) store->verify();
  const StoreHeader& header = store->header();
  ordered_json result{{"kind", "token store"},
                      {"path", path.string()},
                      {"bytes", fs::file_size(path)},
                      {"vocab_size", header.vocab_size},
                      {"tokenizer", header.tokenizer_hash},
                      {"seed", header.seed},
                      {"order", name_of(header.order)},
                      {"max_length", header.max_length},
                      {"eval_fraction", header.eval_fraction},
                      {"content", header.content_hash}};
  ordered_json sources = ordered_json::array();
  for (const StoreSource& source : header.sources)
    sources.push_back({{"path", source.path}, {"sha256", source.sha256}});
  result["train"] = split_object(store->sizes(Split::kTrain));
  result["eval"] = split_object(store->sizes(Split::kEval));
  result["sources"] = std::move(sources);
  if (verify == Verify::kYes) result["verified"] = true;
  return result;
}

ordered_json describe_config(const fs::path& path) {
  static_cast<void>(check_config(path.string()));
  const LoadedRun run = read_run(read_merged(path.string()));
  const ModelPlan plan = plan_model(run.options.model, run.places);
  return {{"kind", "config"},
          {"path", path.string()},
          {"model", describe_model(plan.options)},
          {"matmul_parameters", matmul_parameter_count(plan.options)},
          {"compute", name_of(plan.compute)}};
}

}  // namespace ink
