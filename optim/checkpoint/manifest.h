// manifest.json: what a checkpoint holds, who wrote it, and how to tell that it is whole.
//
// A directory is a checkpoint if and only if its manifest parses; it is written last and carries
// its own hash (seal.h). Every other file is listed with size and SHA-256. Every tensor is listed
// with its global name and shape, its dtype, the file it lies in and the boxes of the global tensor
// that the file holds, so that any layout can read what any layout wrote.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/nn/parameter.h"

namespace ink {

inline constexpr int64_t kManifestFormat = 2;

struct ManifestFile {
  std::string name;  // relative, such as state/rank-0.safetensors
  uint64_t bytes = 0;
  std::string sha256;
};

struct ManifestTensor {
  std::string name, file;
  DType dtype = DType::kF32;
  Shape shape;                // global
  std::vector<Piece> pieces;  // local_offset counts elements of the tensor in the file
};

// What bit-exact resume is promised for; a difference is a warning on load.
struct WriterInfo {
  std::string version, instruction_set, device, libraries;
  int64_t threads = 0;
  std::string layout;  // "dp2"
};

struct Manifest {
  int64_t step = 0;
  std::string run_id, created;  // UTC, ISO 8601
  WriterInfo writer;
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;
  nlohmann::json trainer;

  [[nodiscard]] const ManifestTensor* find(const std::string& name) const;
};

[[nodiscard]] nlohmann::ordered_json to_json(const Manifest& manifest);
// Error 3 with the file and the key. verify: its own hash too.
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& checkpoint, bool verify = true);
// From the text of manifest.json; place: what errors name.
[[nodiscard]] Manifest parse_manifest(const std::string& text, const std::string& place,
                                      bool verify = true);
// The sealed text of manifest.json.
[[nodiscard]] std::string manifest_text(const Manifest& manifest);
// Sizes and hashes of every listed file; Error 3 with the file, expected and found.
void verify_files(const std::filesystem::path& checkpoint, const Manifest& manifest);

// Lines that say in what the present writer differs, empty when bit-exact resume holds.
[[nodiscard]] std::vector<std::string> differences(const WriterInfo& saved, const WriterInfo& now);

}  // namespace ink
