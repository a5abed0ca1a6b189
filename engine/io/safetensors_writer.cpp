#include "engine/io/safetensors_writer.h"

#include <nlohmann/json.hpp>
#include <set>

#include "engine/core/error.h"
#include "engine/io/safetensors_table.h"

namespace ink {
namespace {

std::string header_of(std::span<const SafetensorsSpec> tensors,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names;
  uint64_t offset = 0;
  std::string text = header.dump();
  text.pop_back();  // the closing brace; entries are appended as text, a map would search every
                    // name
  for (const SafetensorsSpec& t : tensors) {
    const bool fresh = names.insert(t.name).second && t.name != "__metadata__";
    CHECK(fresh, "tensor name '{}' is used twice or reserved", t.name);
    if (text.size() > 1) text += ',';
    text += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        nlohmann::json(t.name).dump(), file_dtype_of(t.dtype).name,
                        fmt::join(t.shape.sizes(), ","), offset, offset + t.bytes());
    offset += t.bytes();
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data starts at a multiple of 8
  CHECK(text.size() <= kMaxSafetensorsHeader, "header of {} bytes", text.size());
  return text;
}

uint64_t data_bytes_of(std::span<const SafetensorsSpec> tensors) {
  uint64_t bytes = 0;
  for (const SafetensorsSpec& t : tensors) bytes += t.bytes();
  return bytes;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<SafetensorsSpec> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path), tensors_(std::move(tensors)) {
  const std::string header = header_of(tensors_, metadata);
  const uint64_t length = header.size();
  require_free_bytes(path, data_bytes_of(tensors_) + length + sizeof length);
  put(std::as_bytes(std::span(&length, 1)));
  put(std::as_bytes(std::span(header)));
}

void SafetensorsWriter::put(std::span<const std::byte> bytes) {
  file_.write(bytes);
  hash_.update(bytes);
}

void SafetensorsWriter::write(const std::string& name, std::span<const std::byte> bytes) {
  while (current_ < tensors_.size() && position_ == tensors_[current_].bytes() &&
         tensors_[current_].name != name) {
    ++current_;
    position_ = 0;
  }
  CHECK(current_ < tensors_.size() && tensors_[current_].name == name,
        "data of tensor '{}' comes out of order", name);
  CHECK(bytes.size() <= tensors_[current_].bytes() - position_,
        "tensor '{}' has {} bytes, got more", name, tensors_[current_].bytes());
  put(bytes);
  position_ += bytes.size();
}

WrittenFile SafetensorsWriter::finish() {
  while (current_ < tensors_.size() && position_ == tensors_[current_].bytes()) {
    ++current_;
    position_ = 0;
  }
  CHECK(current_ == tensors_.size(), "tensor '{}' has {} bytes, got {}", tensors_[current_].name,
        tensors_[current_].bytes(), position_);
  file_.close();
  return {file_.written(), hash_.finish()};
}

}  // namespace ink
