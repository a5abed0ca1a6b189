// One directory made by others, and files inside it by one relative name.
//
// Nothing outside of the directory is opened: a name with `/`, `..`, a NUL or nothing in it is
// refused before any system call, and links are followed by hand, only to another plain name or, in
// a hub cache (`.../snapshots/<revision>/`), to `../../blobs/<hexadecimal digits>`.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/file.h"

namespace ink {

class [[nodiscard]] SafeDirectory {
 public:
  // Error 3 when it does not exist or is not a directory.
  explicit SafeDirectory(std::filesystem::path path);

  // Error 3: absent, not a plain name, a link that leaves the directory, not a regular file.
  [[nodiscard]] File open(std::string_view name) const;
  [[nodiscard]] bool has(std::string_view name) const;   // a directory entry of that name exists
  [[nodiscard]] std::vector<std::string> names() const;  // all entries, sorted
  [[nodiscard]] std::string place(std::string_view name) const;  // `<directory>/<name>`, for errors
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  [[nodiscard]] File open_blob(const std::string& blob, std::string_view name) const;

  std::filesystem::path path_;
  Descriptor fd_;
};

// One path component that is neither empty nor `.` nor `..`.
[[nodiscard]] bool is_plain_name(std::string_view name);

}  // namespace ink
