// The configurations that ship with the program: `inkstone config list | copy | check`.
//
// Pure functions of a folder that holds models/ and runs/; find_gallery() says which folder.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ink {

struct GalleryEntry {
  std::string name;   // `runs/pretrain_internlm2_tiny`
  std::string title;  // the first comment line of the file, without its mark
  std::filesystem::path path;
};

// `from_environment` (INKSTONE_CONFIGS) if it is not empty, else share/inkstone/configs beside the
// binary's bin/, else the nearest configs/ above the binary, as in a build folder or a bundle.
// Error 3 if there is none.
std::filesystem::path find_gallery(const std::string& from_environment,
                                   const std::filesystem::path& binary);

// Sorted by name; those whose name contains `pattern`, or matches it where it has `*` or `?`.
std::vector<GalleryEntry> list_gallery(const std::filesystem::path& gallery,
                                       const std::string& pattern = {});

// By full name or by its last part, with or without .yaml; error 2 names the nearest, or both where
// a last part is ambiguous.
GalleryEntry find_in_gallery(const std::filesystem::path& gallery, const std::string& name);

// Writes a copy that stands alone: its bases are merged in, its leading comment is kept. Into
// `destination`, or into NAME.yaml there if it is a folder; error 4 if the file exists.
std::filesystem::path copy_from_gallery(const std::filesystem::path& gallery,
                                        const std::string& name,
                                        const std::filesystem::path& destination);

// Checks a file as `train` would and returns it with every key filled in. A file that has neither
// data nor train keys is a base: its keys and a whole model section are checked, nothing else.
std::string check_config(const std::string& path, std::span<const std::string> overrides = {});

}  // namespace ink
