// Files and directories that appear complete or not at all.
//
// Everything is written under `<final name>.tmp-<id>` beside the final name, made durable, renamed
// and made durable again in the parent. What is not committed is removed; after a crash only names
// with that suffix are left, and `is_temporary_name` finds them.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "engine/io/file_writer.h"

namespace ink {

enum class Existing { kRefuse, kReplace };

// `step-20` -> `step-20.tmp-<process id>-<16 hexadecimal digits>`, never the same twice.
[[nodiscard]] std::filesystem::path temporary_name(const std::filesystem::path& final_path);
[[nodiscard]] bool is_temporary_name(std::string_view file_name);

class AtomicFile {
 public:
  // An existing file of that name is replaced by commit() unless told otherwise.
  explicit AtomicFile(std::filesystem::path final_path, Existing existing = Existing::kReplace);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  FileWriter& writer() { return *writer_; }
  void commit();

 private:
  std::filesystem::path final_path_, temporary_path_;
  Existing existing_;
  std::optional<FileWriter> writer_;
};

void write_file_atomically(const std::filesystem::path& path, std::string_view text);

class AtomicDirectory {
 public:
  // kRefuse: Error 4 when the final name exists and is not an empty directory, now and at commit().
  explicit AtomicDirectory(const std::filesystem::path& final_path,
                           Existing existing = Existing::kRefuse);
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;
  ~AtomicDirectory();

  // Where to write until commit(); files in it are synced by who writes them (FileWriter::close).
  [[nodiscard]] const std::filesystem::path& path() const { return temporary_path_; }
  void commit();

 private:
  std::filesystem::path final_path_, temporary_path_;
  Existing existing_;
  bool committed_ = false;
};

}  // namespace ink
