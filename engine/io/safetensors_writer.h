// Writes one safetensors file in a single pass: the header is known from names, dtypes and shapes,
// the data follows in that order, in pieces of any size. Equal input gives equal bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/core/shape.h"
#include "engine/io/file_writer.h"
#include "engine/io/sha256.h"

namespace ink {

struct SafetensorsSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  [[nodiscard]] uint64_t bytes() const {
    return static_cast<uint64_t>(shape.numel()) * static_cast<uint64_t>(size_of(dtype));
  }
};

struct WrittenFile {
  uint64_t bytes = 0;
  std::string sha256;
};

class SafetensorsWriter {
 public:
  // Creates the file, which must not exist, and writes the header. Readers of Hugging Face files
  // want `"format": "pt"` in the metadata.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsSpec> tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

  // The next bytes of the data buffer. `name` is the tensor they belong to: a piece never crosses
  // a border, and tensors come in the order of the constructor.
  void write(const std::string& name, std::span<const std::byte> bytes);
  // All data is there: durable, closed.
  [[nodiscard]] WrittenFile finish();

 private:
  void put(std::span<const std::byte> bytes);

  FileWriter file_;
  Sha256 hash_;
  std::vector<SafetensorsSpec> tensors_;
  size_t current_ = 0;     // index into tensors_
  uint64_t position_ = 0;  // bytes of the current tensor already written
};

}  // namespace ink
