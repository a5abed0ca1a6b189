// bench/gpu/kernels.py keeps what was measured before a kernel failed or hung. The program that it
// times here is a small script.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/child.h"
#include "tests/io/temporary_folder.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const char* const kProgram = R"(#!/bin/sh
row() { echo "{\"family\": \"$1\", \"kernel\": \"$2\", \"shape\": {\"n\": 1}, \"milliseconds\": 2.5}"; }
[ "$1" != --list ] || { printf 'copy\nfails\nhangs\nends\n'; exit; }
echo '{"card": "of no kind"}'
row copy read
row "$2" first
case $2 in
  fails) row fails second; printf '{"family": "fa'; echo 'one of the ops: no' >&2; exit 7 ;;
  hangs) exec sleep 60 ;;
  ends) row ends second ;;
esac
)";

std::vector<std::string> kernels_of(const json& rows, const std::string& family) {
  std::vector<std::string> kernels;
  for (const json& row : rows) {
    if (row["family"] == family) kernels.push_back(row["kernel"]);
  }
  return kernels;
}

TEST(GpuKernels, RowsBeforeAFailureAreKept) {
  const TemporaryFolder folder;
  const fs::path program = folder.write("program", kProgram), out = folder / "kernels.json";
  fs::permissions(program, fs::perms::owner_all);
  const ChildResult result = run_child(
      {INKSTONE_PYTHON, (fs::path(INKSTONE_SOURCE_DIR) / "bench/gpu/kernels.py").string(),
       "--bench", program.string(), "--rounds", "2", "--seconds", "2", "--json", out.string()});
  EXPECT_EQ(result.code, 1) << result.err;
  const json said = json::parse(slurp(out));
  const std::vector<std::string> both = {"first", "second"};
  EXPECT_EQ(kernels_of(said["rows"], "fails"), both);
  EXPECT_EQ(kernels_of(said["rows"], "hangs"), std::vector<std::string>{"first"});
  EXPECT_EQ(kernels_of(said["rows"], "ends"), both);
  EXPECT_EQ(said["rows"].size(), 5u) << said;
  EXPECT_EQ(said["failures"], (json{{"fails", "left with 7: one of the ops: no, after 2 rows"},
                                    {"hangs", "no end after 2 s, after 1 rows"}}));
  EXPECT_EQ(said["inkstone"]["card"], "of no kind");
  EXPECT_EQ(said["copies"].size(), 4u) << "a round of each, two of the one that ends";
  for (const json& row : said["rows"]) {
    EXPECT_EQ(row["inkstone"]["milliseconds"], 2.5);
    EXPECT_EQ(row["inkstone"]["rounds"], row["family"] == "ends" ? 2 : 1);
  }
}

}  // namespace
}  // namespace ink
