#include "optim/checkpoint/manifest.h"

#include "engine/io/file.h"
#include "engine/io/json.h"
#include "engine/io/sha256.h"
#include "optim/checkpoint/seal.h"

namespace ink {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

ordered_json piece_to_json(const Piece& piece) {
  return {{"begin", piece.begin}, {"size", piece.size}, {"offset", piece.local_offset}};
}

std::vector<int64_t> sizes_of(const JsonReader& reader, const char* key) {
  const json& list = reader.at(key);
  if (list.is_array() && list.empty()) return {};
  return reader.integers(key, 0, std::numeric_limits<int64_t>::max());
}

template <class F>
void for_each_object(const JsonReader& reader, const char* key, F&& f) {
  const json& list = reader.at(key);
  if (!list.is_array()) throw reader.error(key, "a list of objects");
  for (size_t i = 0; i < list.size(); ++i)
    f(JsonReader(list[i], reader.place(), fmt::format("{}.{}", key, i)));
}

// A file inside the checkpoint: at most one folder deep, plain names only.
std::string checked_name(const JsonReader& reader) {
  const std::string name = reader.string("name");
  const std::filesystem::path path(name);
  bool plain = !name.empty() && path.is_relative();
  int parts = 0;
  for (const auto& part : path)
    plain = plain && part != ".." && part != "." && !part.empty() && ++parts <= 2;
  if (!plain) throw reader.error("name", "a file inside the checkpoint");
  return name;
}

ManifestTensor tensor_from(const JsonReader& reader) {
  ManifestTensor tensor{.name = reader.string("name"), .file = reader.string("file")};
  const std::string dtype = reader.string("dtype");
  if (dtype != "f32" && dtype != "bf16" && dtype != "f16" && dtype != "f64")
    throw reader.error("dtype", "f64, f32, bf16 or f16");
  tensor.dtype = dtype_from_name(dtype);
  const std::vector<int64_t> shape = sizes_of(reader, "shape");
  if (shape.size() > Shape::kMaxRank) throw reader.error("shape", "at most six dimensions");
  tensor.shape = Shape(shape);
  for_each_object(reader, "pieces", [&](const JsonReader& piece) {
    tensor.pieces.push_back(
        {sizes_of(piece, "begin"), sizes_of(piece, "size"), piece.integer("offset", 0)});
    if (tensor.pieces.back().begin.size() != shape.size() ||
        tensor.pieces.back().size.size() != shape.size()) {
      throw piece.error("begin", fmt::format("{} dimensions", shape.size()));
    }
  });
  return tensor;
}

}  // namespace

const ManifestTensor* Manifest::find(const std::string& name) const {
  for (const ManifestTensor& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

ordered_json to_json(const Manifest& m) {
  ordered_json files = ordered_json::array(), tensors = ordered_json::array();
  for (const ManifestFile& f : m.files)
    files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  for (const ManifestTensor& t : m.tensors) {
    ordered_json pieces = ordered_json::array();
    for (const Piece& piece : t.pieces) pieces.push_back(piece_to_json(piece));
    tensors.push_back(
        {{"name", t.name},
         {"dtype", name_of(t.dtype)},
         {"shape", std::vector<int64_t>(t.shape.sizes().begin(), t.shape.sizes().end())},
         {"file", t.file},
         {"pieces", pieces}});
  }
  return {{"format", kManifestFormat},
          {"step", m.step},
          {"run_id", m.run_id},
          {"created", m.created},
          {"writer",
           {{"version", m.writer.version},
            {"instruction_set", m.writer.instruction_set},
            {"device", m.writer.device},
            {"libraries", m.writer.libraries},
            {"threads", m.writer.threads},
            {"layout", m.writer.layout}}},
          {"trainer", m.trainer},
          {"files", files},
          {"tensors", tensors}};
}

std::string manifest_text(const Manifest& manifest) {
  return seal(to_json(manifest).dump(1) + "\n");
}

Manifest read_manifest(const std::filesystem::path& checkpoint, bool verify) {
  const std::filesystem::path path = checkpoint / "manifest.json";
  return parse_manifest(read_text(path, JsonLimits{}.max_bytes), path.string(), verify);
}

Manifest parse_manifest(const std::string& text, const std::string& place, bool verify) {
  if (verify) check_seal(text, place);
  const json document = parse_json(text, place);
  const JsonReader reader(document, place);
  if (reader.integer("format") != kManifestFormat)
    throw reader.error("format", fmt::format("{}", kManifestFormat));
  Manifest manifest{.step = reader.integer("step", 0),
                    .run_id = reader.string("run_id"),
                    .created = reader.string("created")};
  const JsonReader writer = reader.object("writer");
  manifest.writer = {writer.string("version"),     writer.string("instruction_set"),
                     writer.string("device"),      writer.string("libraries"),
                     writer.integer("threads", 0), writer.string("layout")};
  manifest.trainer = reader.at("trainer");
  for_each_object(reader, "files", [&](const JsonReader& file) {
    manifest.files.push_back({checked_name(file), static_cast<uint64_t>(file.integer("bytes", 0)),
                              file.string("sha256")});
  });
  for_each_object(reader, "tensors", [&](const JsonReader& tensor) {
    manifest.tensors.push_back(tensor_from(tensor));
  });
  return manifest;
}

void verify_files(const std::filesystem::path& checkpoint, const Manifest& manifest) {
  for (const ManifestFile& listed : manifest.files) {
    const File file = File::open(checkpoint / listed.name);
    if (file.size() != listed.bytes) {
      throw Error(ExitCode::kBadInput, file.place(),
                  fmt::format("expected {} bytes, got {}", listed.bytes, file.size()));
    }
    const std::string hash = sha256_of(file);
    if (hash != listed.sha256) {
      throw Error(ExitCode::kBadInput, file.place(),
                  fmt::format("expected SHA-256 {}, got {}", listed.sha256, hash));
    }
  }
}

std::vector<std::string> differences(const WriterInfo& saved, const WriterInfo& now) {
  std::vector<std::string> lines;
  const auto compare = [&](const char* what, const auto& a, const auto& b) {
    if (a != b) lines.push_back(fmt::format("{}: saved with {}, now {}", what, a, b));
  };
  compare("version", saved.version, now.version);
  compare("instruction set", saved.instruction_set, now.instruction_set);
  compare("device", saved.device, now.device);
  compare("libraries", saved.libraries, now.libraries);
  compare("threads per rank", saved.threads, now.threads);
  compare("layout", saved.layout, now.layout);
  return lines;
}

}  // namespace ink
