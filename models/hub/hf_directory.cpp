#include "models/hub/hf_directory.h"

#include <algorithm>

#include "engine/io/json.h"

namespace ink {
namespace {

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

bool is_pickle_name(std::string_view name) {
  return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") ||
         name.ends_with(".ckpt") || name.ends_with(".pkl");
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + quote_name(name);
  return text;
}

[[noreturn]] void fail(const std::string& place, const std::string& message) {
  throw Error(ExitCode::kBadInput, place, message);
}

// No weights at all: say what is there instead.
[[noreturn]] void refuse_without_weights(const SafeDirectory& files) {
  std::vector<std::string> pickles, others;
  for (const std::string& name : files.names()) {
    if (is_pickle_name(name)) pickles.push_back(name);
    if (name.ends_with(".safetensors")) others.push_back(name);
  }
  if (!others.empty()) {
    fail(files.path().string(),
         fmt::format("expected {} or {}, got only {}", kSingle, kIndex, joined(others)));
  }
  if (!pickles.empty()) {
    throw Error(ExitCode::kBadInput, files.path().string(),
                fmt::format("expected {}, got {}: pickle refused", kSingle, joined(pickles)),
                "convert the weights to safetensors with a tool you trust");
  }
  fail(files.path().string(), fmt::format("expected {} or {}, got neither", kSingle, kIndex));
}

// weight_map as it stands: every file name is plain.
std::map<std::string, std::string> weight_map(const JsonReader& index) {
  const JsonReader map = index.object("weight_map");
  std::map<std::string, std::string> files;
  for (const std::string& tensor : map.keys()) {
    const std::string file = map.string(tensor);
    if (!is_plain_name(file)) throw map.error(tensor, "one file name inside the directory");
    files.emplace(tensor, file);
  }
  if (files.empty()) throw index.error("weight_map", "at least one tensor");
  return files;
}

void check_total_size(const JsonReader& index, const std::vector<SafetensorsReader>& shards) {
  if (!index.has("metadata") || !index.object("metadata").has("total_size")) return;
  uint64_t bytes = 0;
  for (const SafetensorsReader& shard : shards) {
    for (const SafetensorsEntry& entry : shard.table().entries()) bytes += entry.bytes();
  }
  const JsonReader metadata = index.object("metadata");
  if (metadata.integer("total_size", 0) != static_cast<int64_t>(bytes)) {
    throw metadata.error("total_size", fmt::format("{}, the bytes in the shards", bytes));
  }
}

}  // namespace

std::string HfDirectory::Location::place() const {
  return fmt::format("{}: tensor {}", file->place(), quote_name(entry->name));
}

HfDirectory::HfDirectory(const std::filesystem::path& path) : files_(path) {
  if (files_.has(kIndex)) {
    open_shards();
  } else if (files_.has(kSingle)) {
    open_single(kSingle);
  } else {
    refuse_without_weights(files_);
  }
  note_unused_weights();
}

void HfDirectory::open_single(std::string_view name) {
  shard_names_ = {std::string(name)};
  shards_.emplace_back(files_.open(name));
  for (const SafetensorsEntry& entry : shards_[0].table().entries()) {
    tensors_[entry.name] = {shards_.data(), &entry};
  }
}

void HfDirectory::open_shards() {
  const nlohmann::json document = read_json(files_.open(kIndex));
  const JsonReader index(document, files_.place(kIndex));
  const std::map<std::string, std::string> map = weight_map(index);
  for (const auto& [tensor, file] : map) shard_names_.push_back(file);
  std::sort(shard_names_.begin(), shard_names_.end());
  shard_names_.erase(std::unique(shard_names_.begin(), shard_names_.end()), shard_names_.end());

  std::vector<std::string> absent;
  for (const std::string& name : shard_names_) {
    if (!files_.has(name)) absent.push_back(name);
  }
  if (!absent.empty()) {
    fail(index.place(), fmt::format("expected {} shards, got {} without {}", shard_names_.size(),
                                    shard_names_.size() - absent.size(), joined(absent)));
  }
  shards_.reserve(shard_names_.size());  // Location points into it
  for (const std::string& name : shard_names_) {
    const SafetensorsReader& shard = shards_.emplace_back(files_.open(name));
    for (const SafetensorsEntry& entry : shard.table().entries()) {
      const auto listed = map.find(entry.name);
      if (listed == map.end() || listed->second != name) {
        fail(fmt::format("{}: tensor {}", shard.place(), quote_name(entry.name)),
             fmt::format(
                 "expected what {} lists for this file, got a tensor that it {}", kIndex,
                 listed == map.end() ? "does not list" : "lists in " + quote_name(listed->second)));
      }
      tensors_[entry.name] = {&shard, &entry};
    }
  }
  for (const auto& [tensor, file] : map) {
    if (!tensors_.contains(tensor)) {
      fail(files_.place(file), fmt::format("expected tensor {}, which {} lists here, got none",
                                           quote_name(tensor), kIndex));
    }
  }
  check_total_size(index, shards_);
}

void HfDirectory::note_unused_weights() {
  std::vector<std::string> unused;
  for (const std::string& name : files_.names()) {
    const bool used =
        std::find(shard_names_.begin(), shard_names_.end(), name) != shard_names_.end();
    if (!used && (name.ends_with(".safetensors") || is_pickle_name(name))) unused.push_back(name);
  }
  if (!unused.empty()) {
    notices_.push_back(fmt::format("{}: {} names the weights; these files are not read: {}",
                                   place(), files_.has(kIndex) ? kIndex : kSingle, joined(unused)));
  }
}

HfNames HfDirectory::names() const {
  for (const HfNames names : {HfNames::kLlama, HfNames::kInternLM2}) {
    if (tensors_.contains(hf_embedding_name(names))) return names;
  }
  fail(place(), fmt::format("expected tensor {} or {}, got neither among {} tensors",
                            hf_embedding_name(HfNames::kLlama),
                            hf_embedding_name(HfNames::kInternLM2), tensors_.size()));
}

}  // namespace ink
