// The directory of a run: may it be used, is there room, and one lock so that two jobs never write
// into it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace ink {

enum class DirectoryUse { kFresh, kOverwrite, kResume };

class RunDirectory {
 public:
  // Error 4: not empty although kFresh, not writable (found by writing), too little space for
  // `needed` bytes, writable for everybody, or locked by a live process (named with its host).
  // Makes the directory and takes the lock. kOverwrite removes what an earlier run left.
  RunDirectory(const std::filesystem::path& path, DirectoryUse use, uint64_t needed);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const std::string& run_id() const { return run_id_; }

 private:
  std::filesystem::path path_;
  std::string run_id_;
  int lock_ = -1;
};

// Several ranks may meet the same thing at once, and one of them speaks: whether this process is
// the first of the job to leave the mark in the directory. Marks go when the next run begins.
enum class Mark { kFailed, kSlow };
[[nodiscard]] bool first_to_mark(const std::filesystem::path& run_directory, Mark mark);

}  // namespace ink
