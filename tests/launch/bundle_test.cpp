// The scripts of the bundle: what bundle.sh says of wrong arguments, how run.sh of an unpacked
// bundle finds its program and the CUDA libraries, how its tests run one after another, and what
// sanitize.sh makes of its tool's verdicts. The programs here are small scripts.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <thread>

#include "tests/cli/child.h"
#include "tests/io/temporary_folder.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

const fs::path kScripts = fs::path(INKSTONE_SOURCE_DIR) / "launch/scripts";
const fs::path kTests = fs::path(INKSTONE_SOURCE_DIR) / "tests/cuda";
const fs::path kSanitize = kTests / "sanitize.sh";

void expect_one_line(const ChildResult& result, int code, const std::string& word) {
  EXPECT_EQ(result.code, code) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find(word), std::string::npos) << word << " in " << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(Bundle, WrongArgumentsAreOneLine) {
  const auto bundle = [](const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {(kScripts / "bundle.sh").string()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run_child(command);
  };
  expect_one_line(bundle({"--cards"}), 2, "--cards needs a list of architectures");
  expect_one_line(bundle({"--cards", ""}), 2, "--cards needs a list of architectures");
  expect_one_line(bundle({"--out"}), 2, "--out needs a folder");
  expect_one_line(bundle({"-j", "all"}), 2, "expected a number of jobs behind -j, got all");
  expect_one_line(bundle({"--card", "75"}), 2, "unknown argument --card");
  EXPECT_NE(bundle({"--help"}).out.find("Exit status"), std::string::npos);
}

TEST(Sanitize, WrongArgumentsAreOneLine) {
  const auto sanitize = [](const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {kSanitize.string()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run_child(command);
  };
  const TemporaryFolder empty;
  const std::string folder = empty.path().string();
  expect_one_line(sanitize({}), 2, "expected the folder of the tests, got none");
  expect_one_line(sanitize({"--tool"}), 2, "--tool needs a name");
  expect_one_line(sanitize({"--seconds", "0", folder}), 2, "expected a number of seconds, got 0");
  expect_one_line(sanitize({folder, folder}), 2, "expected one folder");
  expect_one_line(sanitize({"--all", folder}), 2, "unknown argument --all");
  expect_one_line(sanitize({folder}), 2, "cuda_ops_test, got none");
}

class UnpackedBundle : public testing::Test {
 protected:
  void SetUp() override {
    script("bin/inkstone",
           "echo \"libraries $LD_LIBRARY_PATH\"; echo \"rank ${INKSTONE_RANK:-none} of "
           "${INKSTONE_RANKS:-none}\"; echo \"arguments $*\"\n");
    script("bin/good_test", "echo \"good $*\"\n");
    script("bin/bad_test", "exit 1\n");
    script("bench/gpu.sh",
           "echo \"build $INKSTONE_BUILD\"; \"$INKSTONE_BUILD/launch/inkstone\" x\n");
    fs::copy_file(kScripts / "bundle_run.sh", root_ / "run.sh");
    fs::create_directories(root_ / "tests");
    fs::copy_file(kSanitize, root_ / "tests/sanitize.sh");
    fs::copy_file(kTests / "programs.sh", root_ / "tests/programs.sh");
    fs::create_directories(root_ / "launch");
    fs::create_symlink("../run.sh", root_ / "launch/inkstone");
    root_.write("lib/cuda-libraries", "libfirst.so.1\nlibsecond.so.2\n");
  }
  void script(const std::string& name, const std::string& body) const {
    fs::permissions(root_.write(name, "#!/bin/sh\n" + body), fs::perms::owner_all);
  }
  void install_libraries() const {
    root_.write("toolkit/lib64/libfirst.so.1", "");
    root_.write("toolkit/lib64/libsecond.so.2", "");
  }
  [[nodiscard]] ChildResult run(const std::vector<std::string>& arguments,
                                const std::string& program = "run.sh",
                                const std::string& library_path = "") const {
    std::vector<std::string> command = {(root_ / program).string()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run_child(command, {.variables = variables(library_path)});
  }
  [[nodiscard]] std::map<std::string, std::string> variables(
      const std::string& library_path = "") const {
    return {{"CUDA_HOME", (root_ / "toolkit").string()},
            {"INKSTONE_CUDA_LIBS", ""},
            {"LD_LIBRARY_PATH", library_path},
            {"PYTHONPATH", (root_ / "site").string()}};
  }
  [[nodiscard]] ChildResult tests(std::vector<std::string> arguments,
                                  const std::string& library_path = "") const {
    arguments.insert(arguments.begin(), {"tests", "--logs", (root_ / "logs").string()});
    return run(arguments, "run.sh", library_path);
  }
  // What the program prints when the CUDA libraries are in these folders.
  [[nodiscard]] std::string libraries(const std::vector<std::string>& folders) const {
    std::string text = "libraries " + (root_ / "lib").string();
    for (const std::string& folder : folders) text += ":" + (root_ / folder).string();
    return text + "\n";
  }
  TemporaryFolder root_;
};

TEST_F(UnpackedBundle, FindsLibrariesInTheToolkit) {
  install_libraries();
  const ChildResult result = run({"inkstone", "doctor", "a b"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, libraries({"toolkit/lib64"}) + "rank none of none\narguments doctor a b\n");
}

// The library of the driver is none of the bundle's, and may be found through this path alone.
TEST_F(UnpackedBundle, KeepsTheLibraryPathOfTheCallerBehindItsOwn) {
  install_libraries();
  script("bin/good_test", "echo \"libraries $LD_LIBRARY_PATH\"\n");
  script("bin/bad_test", "exit 0\n");
  const std::string want = "libraries " + (root_ / "lib").string() + ":" +
                           (root_ / "toolkit/lib64").string() + ":/driver/lib64:/driver/lib\n";
  const std::string path = "/driver/lib64:/driver/lib";
  EXPECT_TRUE(run({"inkstone"}, "run.sh", path).out.starts_with(want));
  EXPECT_NE(tests({}, path).out.find(want), std::string::npos);
}

TEST_F(UnpackedBundle, FindsLibrariesInPackagesOfPython) {
  if (run_child({"python3", "--version"}).code != 0) GTEST_SKIP() << "no python3 here";
  root_.write("site/nvidia/one/lib/libfirst.so.1", "");
  root_.write("site/nvidia/two/lib/libsecond.so.2", "");
  const ChildResult result = run({"inkstone"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, libraries({"site/nvidia/one/lib", "site/nvidia/two/lib"}) +
                            "rank none of none\narguments \n");
}

TEST_F(UnpackedBundle, MissingLibrariesAreNamed) {
  const ChildResult result = run({"inkstone", "doctor"});
  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("error[4]: run.sh: "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("none of: libfirst.so.1 libsecond.so.2\n"), std::string::npos);
  EXPECT_NE(result.err.find("\nhint: "), std::string::npos) << result.err;
}

// The libraries of the bundle must not reach the Python that a benchmark starts.
TEST_F(UnpackedBundle, BenchmarksKeepTheirOwnLibraries) {
  install_libraries();
  const ChildResult result = run({"gpu.sh", "kernels"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "build " + root_.path().string() + "\n" + libraries({"toolkit/lib64"}) +
                            "rank none of none\narguments x\n");
}

TEST_F(UnpackedBundle, RanksMeetInAFolder) {
  install_libraries();
  const ChildResult result = run({"-n", "2", "inkstone", "train"});
  EXPECT_EQ(result.code, 0) << result.err;
  for (const char* rank : {"rank 0 of 2\n", "rank 1 of 2\n"})
    EXPECT_NE(result.out.find(rank), std::string::npos) << result.out;
  script("bin/inkstone", "exit $((INKSTONE_RANK * 6))\n");
  EXPECT_EQ(run({"-n", "2", "inkstone", "train"}).code, 6);
}

// 6 is what the others say of the rank that failed.
TEST_F(UnpackedBundle, TheCodeIsThatOfTheRankThatKnows) {
  install_libraries();
  for (const char* knows : {"0", "1", "2"}) {
    script("bin/inkstone", fmt::format("[ $INKSTONE_RANK = {} ] && exit 7\nexit 6\n", knows));
    EXPECT_EQ(run({"-n", "3", "inkstone", "train"}).code, 7) << knows;
  }
}

// Ranks that were told already, as by a terminal, are not told twice; a second request is.
TEST_F(UnpackedBundle, RequestsToStopReachTheRanks) {
  install_libraries();
  script("bin/inkstone",
         "trap 'echo stop >> stop-$INKSTONE_RANK' USR1\n"
         "trap 'exit 9' TERM\n"
         "echo there >> there-$INKSTONE_RANK\n"
         "while [ ! -e go-on ]; do sleep 0.02; done\n"
         "exit 75\n");
  const auto wait_for = [&](const std::string& name) {
    for (int i = 0; i < 2000 && !fs::exists(root_ / name); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(fs::exists(root_ / name)) << name;
  };
  const auto stopped = [&](const std::vector<int>& signals) {
    for (const char* name : {"stop-0", "stop-1", "there-0", "there-1", "go-on"})
      fs::remove(root_ / name);
    Child child({(root_ / "run.sh").string(), "-n", "2", "inkstone"},
                {.directory = root_.path(), .variables = variables()});
    for (const char* name : {"there-0", "there-1"}) wait_for(name);
    for (const int signal : signals) {
      child.signal(signal);
      for (const char* name : {"stop-0", "stop-1"}) wait_for(name);
    }
    if (signals.size() == 1) root_.write("go-on", "");
    return child.wait().code;
  };
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) EXPECT_EQ(stopped({signal}), 75) << signal;
  for (const int signal : {SIGINT, SIGTERM}) EXPECT_EQ(stopped({signal, SIGTERM}), 9) << signal;
}

void expect_lines(const std::string& text, const std::vector<std::string>& lines) {
  for (const std::string& line : lines)
    EXPECT_NE(("\n" + text).find("\n" + line), std::string::npos) << line << " in\n" << text;
}

TEST_F(UnpackedBundle, TestsAllRunAndTheFailedOnesAreListed) {
  install_libraries();
  script("bin/good_test",
         "echo \"good $*\"; echo '[ RUN      ] A.B'; echo '[       OK ] A.B (3 ms)'\n"
         "echo '[  PASSED  ] 1 test.'\n");
  script("bin/bad_test",
         "echo '[ RUN      ] A.C'; echo 'a/b.cpp:7: Failure'; echo '[  FAILED  ] A.C (3 ms)'\n"
         "echo '[  FAILED  ] A.C'; echo ' 1 FAILED TEST'; exit 1\n");
  const ChildResult result = tests({"--gtest_filter=*"});
  EXPECT_EQ(result.code, 1) << result.err;
  expect_lines(result.out,
               {"good --gtest_filter=*\ngood_test: exit status 0 after ",
                "a/b.cpp:7: Failure\n[  FAILED  ] A.C (3 ms)\nbad_test: exit status 1 after ",
                "== 2 programs, 0 tests skipped; failed: bad_test; did not end: none; logs in "});
  expect_lines(slurp(root_ / "logs/good_test.log"), {"[ RUN      ] A.B\n"});
  const ChildResult named = tests({"good_test"});
  EXPECT_EQ(named.code, 0) << named.err;
  expect_lines(named.out, {"== 1 programs, 0 tests skipped; failed: none; did not end: none;"});
}

// A kernel that waits for ever takes one program with it, and its name is known.
TEST_F(UnpackedBundle, TestsThatDoNotEndAreCutOff) {
  install_libraries();
  script("bin/cuda_a_test", "echo '[ RUN      ] A.Hangs'; exec sleep 60\n");
  script("bin/cuda_b_test", "echo '[ RUN      ] B.Dies'; kill -SEGV $$\n");
  const ChildResult result = tests({"--seconds", "1", "cuda_a_test", "cuda_b_test", "good_test"});
  EXPECT_EQ(result.code, 1) << result.err;
  expect_lines(result.out, {"stopped in: A.Hangs\ncuda_a_test: did not end after ",
                            "stopped in: B.Dies\ncuda_b_test: exit status 139 after ",
                            "good_test: exit status 0 after ",
                            "== 3 programs, 0 tests skipped; failed: cuda_b_test; did not end: "
                            "cuda_a_test; logs in "});
}

TEST_F(UnpackedBundle, TestsThatWaitForOthersRunLast) {
  install_libraries();
  fs::remove(root_ / "bin/bad_test");
  for (const char* test : {"attention", "cli", "linear", "nccl_group"})
    script(fmt::format("bin/cuda_{}_test", test), fmt::format("echo ran {}\n", test));
  const std::string out = tests({}).out;
  size_t before = 0;
  for (const char* line : {"ran linear", "good", "ran attention", "ran nccl_group", "ran cli"}) {
    const size_t at = out.find(line);
    EXPECT_TRUE(at != std::string::npos && at >= before) << line << " in\n" << out;
    before = at;
  }
}

TEST_F(UnpackedBundle, ReasonToSkipIsSaidOncePerProgram) {
  install_libraries();
  const auto skip = [](const char* name) {
    return fmt::format(
        "echo '[ RUN      ] {0}'; echo 'a/b.cpp:7: Skipped'; echo 'no card here'\n"
        "echo '[  SKIPPED ] {0} (0 ms)'\n",
        name);
  };
  script("bin/bad_test",
         skip("A.B") + skip("A.C") + "echo '[  SKIPPED ] 2 tests, listed below:'\n");
  const ChildResult result = tests({});
  EXPECT_EQ(result.code, 0) << result.err;
  expect_lines(result.out, {"skipped: no card here\nbad_test: exit status 0 after ",
                            "== 2 programs, 2 tests skipped; failed: none;"});
  EXPECT_NE(result.out.find(": 0 passed, 0 failed, 2 skipped\n"), std::string::npos);
}

TEST_F(UnpackedBundle, SanitizerVerdictsAreListed) {
  install_libraries();
  for (const char* test : {"ops", "attention", "lm_loss", "linear"})
    script(fmt::format("bin/cuda_{}_test", test), "exit 0\n");
  // compute-sanitizer --tool NAME ... PROGRAM FLAGS
  script("toolkit/bin/compute-sanitizer",
         "case \"$*\" in *racecheck*cuda_ops_test*) code=9;; *) code=0;; esac\n"
         "echo \"libraries $LD_LIBRARY_PATH\"; echo \"========= ERROR SUMMARY: $code errors\"\n"
         "exit $code\n");
  const std::string logs = (root_ / "logs").string();
  const ChildResult clean = run({"sanitize.sh", "--tool", "memcheck", "--logs", logs});
  EXPECT_EQ(clean.code, 0) << clean.out << clean.err;
  EXPECT_NE(clean.out.find("memcheck cuda_linear_test: exit status 0"), std::string::npos);
  EXPECT_NE(clean.out.find("== findings or failures: none"), std::string::npos) << clean.out;
  const ChildResult found = run({"sanitize.sh", "--gtest_filter=*", "--logs", logs});
  EXPECT_EQ(found.code, 1) << found.err;
  EXPECT_NE(found.out.find("ERROR SUMMARY: 9 errors"), std::string::npos) << found.out;
  EXPECT_NE(found.out.find("== findings or failures: racecheck-cuda_ops_test;"), std::string::npos)
      << found.out;
  fs::remove(root_ / "toolkit/bin/compute-sanitizer");
  if (run_child({"compute-sanitizer", "--version"}).code != 0)
    expect_one_line(run({"sanitize.sh"}), 4, "expected compute-sanitizer in PATH");
}

TEST_F(UnpackedBundle, WrongArgumentsAreOneLine) {
  install_libraries();
  expect_one_line(run({"inkston"}), 2, "error[2]: run.sh: expected tests, a program of bin/");
  expect_one_line(run({"-n", "two", "inkstone"}), 2, "expected a number of ranks behind -n");
  expect_one_line(run({"-n"}), 2, "expected a number of ranks behind -n, got ''");
  expect_one_line(run({"-n", "2"}), 2, "got ''");
  EXPECT_NE(run({}).out.find("usage: ./run.sh"), std::string::npos);
  expect_one_line(tests({"cuda_no_test"}), 2, "expected a program of ");
  expect_one_line(tests({"--seconds", "soon"}), 2, "expected a number of seconds, got soon");
  expect_one_line(tests({"--filter=x"}), 2, "error[2]: programs.sh: unknown argument --filter=x");
}

}  // namespace
}  // namespace ink
