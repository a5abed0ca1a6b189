// A file that grows: opened for appending, every call written through at once, so that whoever
// tails it sees whole lines and a killed process loses none. Every failure is Error 4.
//
// The logs and event files of a run use it; a file written whole goes through
// engine/io/atomic_file.h.
#pragma once

#include <filesystem>
#include <string_view>

#include "engine/io/file.h"

namespace ink {

class AppendFile {
 public:
  // Creates the file when it is not there.
  explicit AppendFile(std::filesystem::path path);

  void write(std::string_view bytes);
  // Cuts what follows the last line break: the row that a crash left half written.
  void drop_torn_line();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void fail(std::string_view action) const;

  std::filesystem::path path_;
  Descriptor fd_;
};

// Creates a directory of the run and its parents.
void make_directory(const std::filesystem::path& path);

}  // namespace ink
