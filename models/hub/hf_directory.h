// A Hugging Face model directory, opened and checked: which tensors it holds and in which file.
//
// Weights are `model.safetensors`, or shards that `model.safetensors.index.json` lists. The index
// must agree with its shards in every name and in the total size; files it does not list are left
// alone and mentioned in notices(). Pickled weights are refused, never read. Everything is Error 3.
// Only headers are read here, so a check of a large model takes milliseconds.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/safe_path.h"
#include "engine/io/safetensors_reader.h"
#include "models/hub/names.h"

namespace ink {

class HfDirectory {
 public:
  struct Location {
    const SafetensorsReader* file = nullptr;
    const SafetensorsEntry* entry = nullptr;

    void read(uint64_t offset, std::span<std::byte> out) const { file->read(*entry, offset, out); }
    [[nodiscard]] std::string place() const;  // `file: tensor "name"`
  };

  explicit HfDirectory(const std::filesystem::path& path);

  [[nodiscard]] const SafeDirectory& files() const { return files_; }
  [[nodiscard]] std::string place() const { return files_.path().string(); }
  [[nodiscard]] const std::map<std::string, Location, std::less<>>& tensors() const {
    return tensors_;
  }
  [[nodiscard]] const std::vector<SafetensorsReader>& weight_files() const { return shards_; }
  // Lines for the log, one each.
  [[nodiscard]] const std::vector<std::string>& notices() const { return notices_; }
  // Told by the name of the embedding; Error 3 when there is none of either kind.
  [[nodiscard]] HfNames names() const;

 private:
  void open_single(std::string_view name);
  void open_shards();
  void note_unused_weights();

  SafeDirectory files_;
  std::vector<SafetensorsReader> shards_;
  std::vector<std::string> shard_names_;
  std::map<std::string, Location, std::less<>> tensors_;
  std::vector<std::string> notices_;
};

}  // namespace ink
