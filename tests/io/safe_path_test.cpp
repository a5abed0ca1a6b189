#include "engine/io/safe_path.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>

#include "tests/io/temporary_folder.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
const ExitCode kBad = ExitCode::kBadInput;

TEST(SafeDirectory, OpensPlainNamesAndLinksBetweenThem) {
  const TemporaryFolder folder;
  folder.write("model/a", "text");
  fs::create_symlink("a", folder.path() / "model" / "b");
  const SafeDirectory directory(folder / "model");
  EXPECT_EQ(read_text(directory.open("a"), 9), "text");
  EXPECT_EQ(read_text(directory.open("b"), 9), "text");
  EXPECT_TRUE(directory.has("b"));
  EXPECT_FALSE(directory.has("c"));
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"a", "b"}));
  expect_error(kBad, {"model/c", "No such file"}, [&] { (void)directory.open("c"); });
}

TEST(SafeDirectory, NeverLeaves) {
  const TemporaryFolder folder;
  folder.write("secret", "text");
  folder.write("model/sub/a", "text");
  fs::create_symlink("../secret", folder.path() / "model" / "up");
  fs::create_symlink(folder / "secret", folder.path() / "model" / "absolute");
  fs::create_symlink("sub/a", folder.path() / "model" / "deeper");
  fs::create_symlink("loop", folder.path() / "model" / "loop");
  ASSERT_EQ(mkfifo((folder.path() / "model" / "pipe").c_str(), 0600), 0);
  const SafeDirectory directory(folder / "model");
  const std::string with_zero("a\0b", 3);
  for (const std::string& name :
       {std::string(""), std::string("."), std::string(".."), std::string("../secret"),
        std::string("/etc/passwd"), std::string("sub/a"), with_zero}) {
    expect_error(kBad, {"one file name inside the directory"}, [&] { (void)directory.open(name); });
  }
  for (const char* name : {"up", "absolute", "deeper"}) {
    expect_error(kBad, {name, "got a link to"}, [&] { (void)directory.open(name); });
  }
  for (const char* name : {"loop", "sub", "pipe"}) {
    expect_error(kBad, {name}, [&] { (void)directory.open(name); });
  }
}

TEST(SafeDirectory, FollowsHubCacheLinksOnly) {
  const TemporaryFolder folder;
  const std::string sha256(64, 'a'), sha1(40, 'b');
  folder.write("hub/blobs/" + sha256, "weights");
  folder.write("hub/blobs/" + sha1, "config");
  folder.write("hub/blobs/name", "other");
  const fs::path snapshot = folder.path() / "hub" / "snapshots" / "main";
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/" + sha256, snapshot / "weights");
  fs::create_symlink("../../blobs/" + sha1, snapshot / "config");
  fs::create_symlink("../../blobs/name", snapshot / "not_a_hash");
  fs::create_symlink("../../blobs/../../secret", snapshot / "up");
  const std::string linked(40, 'c');
  fs::create_symlink("/etc/passwd", folder.path() / "hub" / "blobs" / linked);
  fs::create_symlink("../../blobs/" + linked, snapshot / "twice");
  const SafeDirectory directory(snapshot);
  EXPECT_EQ(read_text(directory.open("weights"), 9), "weights");
  EXPECT_EQ(read_text(directory.open("config"), 9), "config");
  for (const char* name : {"not_a_hash", "up", "twice"}) {
    expect_error(kBad, {name}, [&] { (void)directory.open(name); });
  }

  // The same links are refused where the folder is no snapshot.
  const fs::path elsewhere = folder.path() / "hub" / "copies" / "main";
  fs::create_directories(elsewhere);
  fs::create_symlink("../../blobs/" + sha256, elsewhere / "weights");
  expect_error(kBad, {"weights", "link"}, [&] { (void)SafeDirectory(elsewhere).open("weights"); });
}

// From here on the process is told that the kernel has no openat2.
bool forget_openat2() {
  std::array<sock_filter, 4> code{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{.len = code.size(), .filter = code.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(SafeDirectory, KeepsItsPromiseOnKernelsWithoutOpenat2) {
  const TemporaryFolder folder;
  folder.write("secret", "text");
  folder.write("model/a", "text");
  fs::create_symlink("a", folder.path() / "model" / "b");
  fs::create_symlink("../secret", folder.path() / "model" / "up");
  const SafeDirectory directory(folder / "model");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!forget_openat2()) _exit(1);
    try {
      if (read_text(directory.open("a"), 9) != "text") _exit(2);
      if (read_text(directory.open("b"), 9) != "text") _exit(3);
      (void)directory.open("up");
    } catch (const Error& error) {
      _exit(error.code() == kBad && error.place().ends_with("model/up") ? 0 : 4);
    }
    _exit(5);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SafeDirectory, MustBeADirectory) {
  const TemporaryFolder folder;
  folder.write("file", "");
  expect_error(kBad, {"absent"}, [&] { (void)SafeDirectory{folder / "absent"}; });
  expect_error(kBad, {"file"}, [&] { (void)SafeDirectory{folder / "file"}; });
}

}  // namespace
}  // namespace ink
