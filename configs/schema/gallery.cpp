#include "configs/schema/gallery.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <system_error>

#include "configs/schema/dump.h"
#include "configs/schema/keys.h"
#include "configs/schema/run_file.h"
#include "configs/schema/validate.h"
#include "engine/core/error.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr const char* kShelves[] = {"models", "runs"};

bool is_gallery(const fs::path& folder) {
  return std::ranges::all_of(kShelves,
                             [&](const char* shelf) { return fs::is_directory(folder / shelf); });
}

std::string leading_comment(const fs::path& path) {
  std::ifstream file(path);
  std::string comment;
  for (std::string line; std::getline(file, line) && line.starts_with('#');) comment += line + "\n";
  return comment;
}

std::string title_of(const fs::path& path) {
  const std::string comment = leading_comment(path);
  const size_t start = comment.find_first_not_of("# ");
  return start == std::string::npos ? "" : comment.substr(start, comment.find('\n') - start);
}

// `*` stands for any text, `?` for one character.
bool matches(std::string_view name, std::string_view pattern) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*')
    return matches(name, pattern.substr(1)) || (!name.empty() && matches(name.substr(1), pattern));
  return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) &&
         matches(name.substr(1), pattern.substr(1));
}

bool is_wanted(const std::string& name, const std::string& pattern) {
  if (pattern.find_first_of("*?") == std::string::npos)
    return name.find(pattern) != std::string::npos;
  return matches(name, pattern) || matches(name.substr(name.rfind('/') + 1), pattern);
}

}  // namespace

fs::path find_gallery(const std::string& from_environment, const fs::path& binary) {
  if (!from_environment.empty()) {
    if (is_gallery(from_environment)) return from_environment;
    throw Error(ExitCode::kBadInput, from_environment,
                "expected a folder with models/ and runs/, as INKSTONE_CONFIGS says");
  }
  const fs::path folder = fs::absolute(binary).parent_path();
  const fs::path installed = (folder / "../share/inkstone/configs").lexically_normal();
  if (is_gallery(installed)) return installed;
  for (fs::path above = folder; above != above.root_path(); above = above.parent_path())
    if (is_gallery(above / "configs")) return above / "configs";
  throw Error(ExitCode::kBadInput, installed.string(),
              "expected the shipped configurations, found none",
              "name their folder in INKSTONE_CONFIGS");
}

std::vector<GalleryEntry> list_gallery(const fs::path& gallery, const std::string& pattern) {
  std::vector<GalleryEntry> entries;
  for (const char* shelf : kShelves) {
    for (const auto& file : fs::directory_iterator(gallery / shelf)) {
      if (file.path().extension() != ".yaml") continue;
      const std::string name = fmt::format("{}/{}", shelf, file.path().stem().string());
      if (is_wanted(name, pattern)) entries.push_back({name, title_of(file.path()), file.path()});
    }
  }
  std::ranges::sort(entries, {}, &GalleryEntry::name);
  return entries;
}

GalleryEntry find_in_gallery(const fs::path& gallery, const std::string& name) {
  const std::string wanted = name.ends_with(".yaml")
                                 ? name.substr(0, name.size() - std::string_view(".yaml").size())
                                 : name;
  KeyTable names;
  std::vector<GalleryEntry> found;
  for (GalleryEntry& entry : list_gallery(gallery)) {
    if (entry.name == wanted) return std::move(entry);
    names.push_back(entry.path.stem().string());
    if (names.back() == wanted) found.push_back(std::move(entry));
  }
  if (found.size() == 1) return found[0];
  if (found.size() > 1)
    throw Error(ExitCode::kConfig, "",
                fmt::format("expected one configuration, got {} for both {} and {}", wanted,
                            found[0].name, found[1].name));
  throw Error(ExitCode::kConfig, "",
              fmt::format("unknown configuration {}; nearest: {}", shown_text(name),
                          nearest_key(names, wanted)),
              "inkstone config list shows all");
}

fs::path copy_from_gallery(const fs::path& gallery, const std::string& name,
                           const fs::path& destination) {
  const GalleryEntry entry = find_in_gallery(gallery, name);
  const fs::path target =
      fs::is_directory(destination) ? destination / entry.path.filename() : destination;
  if (fs::exists(target))
    throw Error(ExitCode::kIo, target.string(), "expected no file there, found one",
                "choose another destination or remove it");
  std::ofstream out(target, std::ios::binary);
  out << leading_comment(entry.path) << emit_yaml(read_merged(entry.path.string()));
  out.close();
  if (!out) {
    std::error_code absent;
    fs::remove(target, absent);  // half a file would be taken for one
    throw Error(ExitCode::kIo, target.string(), "writing failed");
  }
  return target;
}

std::string check_config(const std::string& path, std::span<const std::string> overrides) {
  const ConfigNode merged = read_merged(path, overrides);
  if (merged.find("data") != nullptr || merged.find("train") != nullptr)
    return dump_run(load_run(path, overrides).options);
  const LoadedRun base = read_run(merged);
  if (base.places.has("model") && !base.options.model.path)
    resolve_model(base.options.model, base.places);
  return emit_yaml(merged);
}

}  // namespace ink
