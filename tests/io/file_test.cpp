#include "engine/io/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "engine/io/atomic_file.h"
#include "engine/io/sha256.h"
#include "tests/io/temporary_folder.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(File, ReadsRangesAndKnowsItsEnd) {
  const TemporaryFolder folder;
  const File file = File::open(folder.write("a", "0123456789"));
  EXPECT_EQ(file.size(), 10u);
  std::string middle(4, ' ');
  file.read(3, std::as_writable_bytes(std::span(middle)));
  EXPECT_EQ(middle, "3456");
  expect_error(ExitCode::kBadInput, {"4 bytes at offset 8", "got 2"},
               [&] { file.read(8, std::as_writable_bytes(std::span(middle))); });
  EXPECT_EQ(read_text(file, 10), "0123456789");
  expect_error(ExitCode::kBadInput, {"at most 9", "got 10"}, [&] { (void)read_text(file, 9); });
}

TEST(File, NamesWhatIsNotAFile) {
  const TemporaryFolder folder;
  expect_error(ExitCode::kBadInput, {"absent", "No such file"},
               [&] { (void)File::open(folder / "absent"); });
  expect_error(ExitCode::kBadInput, {"a directory"}, [&] { (void)File::open(folder.path()); });
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_error(ExitCode::kBadInput, {"pipe"}, [&] { (void)File::open(folder / "pipe"); });
}

TEST(Sha256, KnownVectors) {
  const TemporaryFolder folder;
  // FIPS 180-2, appendix B.
  EXPECT_EQ(sha256_of(std::as_bytes(std::span("abc", 3))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1'000'000, 'a');
  const std::string digest = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  Sha256 pieces;
  for (size_t i = 0; i < million.size(); i += 1000)
    pieces.update(std::as_bytes(std::span(million).subspan(i, 1000)));
  EXPECT_EQ(pieces.finish(), digest);
  EXPECT_EQ(sha256_of(File::open(folder.write("a", million + million.substr(0, 0)))), digest);
  EXPECT_EQ(sha256_of(File::open(folder.write("empty", ""))),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(AtomicFile, AppearsOnlyAtCommit) {
  const TemporaryFolder folder;
  folder.write("a", "old");
  {
    AtomicFile file(folder / "a");
    file.writer().write("half of the n");
    const std::vector<std::string> names = names_in(folder.path());
    ASSERT_EQ(names.size(), 2u);
    EXPECT_TRUE(is_temporary_name(names[1])) << names[1];
    EXPECT_EQ(read_text(folder / "a", 99), "old");
  }
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"a"});
  EXPECT_EQ(read_text(folder / "a", 99), "old");
  write_file_atomically(folder / "a", "new");
  EXPECT_EQ(read_text(folder / "a", 99), "new");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"a"});
  expect_error(ExitCode::kIo, {"exists"}, [&] { AtomicFile(folder / "a", Existing::kRefuse); });
}

TEST(AtomicDirectory, AppearsOnlyAtCommit) {
  const TemporaryFolder folder;
  const auto fill = [](const fs::path& path, std::string_view text) {
    FileWriter file(path / "inside");
    file.write(text);
    file.close();
  };
  {
    AtomicDirectory abandoned(folder / "out");
    fill(abandoned.path(), "x");
    EXPECT_FALSE(fs::exists(folder / "out"));
  }
  EXPECT_TRUE(names_in(folder.path()).empty());
  AtomicDirectory first(folder.path() / "out/");
  AtomicDirectory rival(folder / "out");
  fill(first.path(), "first");
  first.commit();
  EXPECT_EQ(read_text(folder.path() / "out" / "inside", 9), "first");
  expect_error(ExitCode::kIo, {"out", "exists"}, [&] { AtomicDirectory(folder / "out"); });
  expect_error(ExitCode::kIo, {"out", "exists"}, [&] { rival.commit(); });
  AtomicDirectory second(folder / "out", Existing::kReplace);
  fill(second.path(), "second");
  second.commit();
  EXPECT_EQ(read_text(folder.path() / "out" / "inside", 9), "second");
}

TEST(AtomicDirectory, MayTakeTheNameOfAnEmptyOne) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "out");
  AtomicDirectory directory(folder / "out");
  EXPECT_NO_THROW(directory.commit());
}

// The limit and the signal belong to a child, so that the test process keeps its own.
TEST(FileWriter, TellsWhatDidNotFit) {
  const TemporaryFolder folder;
  folder.write("a", "old");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit limit{.rlim_cur = 4096, .rlim_max = 4096};
    std::signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(1);
    try {
      write_file_atomically(folder / "a", std::string(10'000, 'x'));
    } catch (const Error& error) {
      const std::string line = error.line();
      const bool told = line.find("5904 more bytes after 4096") != std::string::npos &&
                        line.find("bytes free") != std::string::npos;
      _exit(error.code() == ExitCode::kIo && told ? 0 : 2);
    }
    _exit(3);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(read_text(folder / "a", 99), "old");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"a"});
}

TEST(FileWriter, AsksForSpaceAndNeverOverwrites) {
  const TemporaryFolder folder;
  folder.write("a", "old");
  EXPECT_GT(free_bytes(folder.path() / "not" / "yet"), 0u);
  expect_error(ExitCode::kIo, {"9223372036854775807 bytes of free space"},
               [&] { require_free_bytes(folder / "a", 9223372036854775807u); });
  expect_error(ExitCode::kIo, {"File exists"}, [&] { FileWriter(folder / "a"); });
  expect_error(ExitCode::kIo, {"cannot create"},
               [&] { FileWriter(folder.path() / "no" / "folder"); });
}

}  // namespace
}  // namespace ink
