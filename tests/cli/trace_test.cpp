// What only a system-call trace shows: the order in which a save becomes durable, and that nothing
// is opened outside of a model directory. Needs strace, which setup.sh installs.

#include <sstream>

#include "tests/cli/inkstone_run.h"
#include "tests/support/golden_folder.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

class Trace : public testing::Test {
 protected:
  void SetUp() override {
    const ChildResult probe = run_child({"strace", "-o", "/dev/null", "true"}, place_.options());
    ASSERT_EQ(probe.code, 0)
        << "expected strace that may trace (launch/scripts/setup.sh installs it)\n"
        << probe.err;
  }
  // Lines of the trace: process, call, descriptors with their paths.
  std::vector<std::string> trace(const std::string& calls,
                                 const std::vector<std::string>& arguments, int code) const {
    std::vector<std::string> command = {"strace",
                                        "-f",
                                        "-y",
                                        "-s",
                                        "4096",
                                        "-e",
                                        "trace=" + calls,
                                        "-o",
                                        (place_ / "trace.txt").string()};
    for (const std::string& word : command_of(arguments)) command.push_back(word);
    const ChildResult result = run_child(command, place_.options());
    EXPECT_EQ(result.code, code) << result.err;
    std::vector<std::string> lines;
    std::istringstream text(slurp(place_ / "trace.txt"));
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }
  // The first line from `begin` on that holds all words; lines.size() when there is none.
  static size_t find(const std::vector<std::string>& lines, const std::vector<std::string>& words,
                     size_t begin = 0) {
    for (size_t i = begin; i < lines.size(); ++i) {
      bool all = true;
      for (const std::string& word : words) all = all && lines[i].find(word) != std::string::npos;
      if (all) return i;
    }
    return lines.size();
  }

  Workplace place_;
};

// Every file is synced, then the directory is renamed, then its parent is synced.
TEST_F(Trace, ASaveIsDurableBeforeItHasItsName) {
  place_.write_run("train: {steps: 2}\ncheckpoint: {hf: always, async: false}");
  const auto lines = trace("fsync,fdatasync,rename,renameat,renameat2",
                           {"train", "run.yaml", "--out", "run", "--quiet"}, 0);
  const size_t published = find(lines, {"rename", "run/step-2.tmp-", "\"run/step-2\""});
  ASSERT_LT(published, lines.size());
  const auto files = files_below(place_ / "run/step-2");
  EXPECT_GE(files.size(), 4u);
  for (const auto& [name, bytes] : files) {
    // hf/ is made under a temporary name of its own.
    const size_t synced =
        find(lines, {"fsync(", "run/step-2.tmp-", "/" + fs::path(name).filename().string() + ">"});
    EXPECT_LT(synced, published) << name;
  }
  const size_t manifest = find(lines, {"fsync(", "run/step-2.tmp-", "/manifest.json>"});
  const size_t state = find(lines, {"fsync(", "run/step-2.tmp-", "/rank-0.safetensors>"});
  EXPECT_LT(state, manifest) << "the manifest comes last";
  const size_t parent = find(lines, {"fsync(", (place_ / "run").string() + ">"}, published);
  EXPECT_LT(parent, lines.size()) << "the parent is not synced after the rename";
}

// A shard name or link that leads outside is refused without touching what it names.
TEST_F(Trace, NothingOutsideOfAModelDirectoryIsOpened) {
  const fs::path model = golden_folder("internlm2");
  fs::create_directory(place_ / "model");
  fs::copy_file(model / "config.json", place_ / "model/config.json");
  fs::copy_file(model / "model.safetensors", place_ / "secret.safetensors");
  for (const char* name : {"../secret.safetensors", "link.safetensors"}) {
    const nlohmann::json index{{"metadata", {{"total_size", 4}}},
                               {"weight_map", {{"model.norm.weight", name}}}};
    place_.write("model/model.safetensors.index.json", index.dump());
    if (std::string(name) == "link.safetensors")
      fs::create_symlink("../secret.safetensors", place_ / "model" / name);
    const auto lines = trace("open,openat,openat2", {"inspect", "model", "--verify"}, 3);
    // A successful open shows the path of the new descriptor.
    EXPECT_EQ(find(lines, {"= ", "<" + (place_ / "secret.safetensors").string() + ">"}),
              lines.size())
        << name;
    EXPECT_LT(find(lines, {"= ", "/model/model.safetensors.index.json>"}), lines.size())
        << "the trace sees no opens";
  }
}

}  // namespace
}  // namespace ink
