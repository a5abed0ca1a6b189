// Every shipped configuration is valid, and can be found, copied and checked.
#include "configs/schema/gallery.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/configs/config_case.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

const fs::path& gallery() {
  static const fs::path folder = fs::path(INKSTONE_SOURCE_DIR) / "configs";
  return folder;
}

TEST(Gallery, EveryFileIsValidAndHasATitle) {
  const auto entries = list_gallery(gallery());
  EXPECT_GE(entries.size(), 19u);
  for (const GalleryEntry& entry : entries) {
    EXPECT_FALSE(entry.title.empty()) << entry.name;
    EXPECT_EQ(error_line([&] { check_config(entry.path.string()); }), "") << entry.name;
    if (entry.name.starts_with("models/"))
      EXPECT_EQ(error_line([&] {
                  resolve_model(read_run(read_merged(entry.path.string())).options.model);
                }),
                "")
          << entry.name;
    else
      EXPECT_EQ(error_line([&] { load_run(entry.path.string()); }), "") << entry.name;
  }
}

TEST(Gallery, ListsByPattern) {
  const auto names = [](const std::string& pattern) {
    std::vector<std::string> all;
    for (const GalleryEntry& entry : list_gallery(gallery(), pattern)) all.push_back(entry.name);
    return all;
  };
  EXPECT_EQ(names("synthetic"), std::vector<std::string>{"runs/pretrain_synthetic"});
  EXPECT_EQ(names("bench_*"), (std::vector<std::string>{"models/bench_100m", "runs/bench_100m"}));
  EXPECT_EQ(names("models/internlm_?b"), std::vector<std::string>{"models/internlm_7b"});
  EXPECT_TRUE(names("nothing*").empty());
}

TEST(Gallery, FindsByNameOrNamesTheNearest) {
  EXPECT_EQ(find_in_gallery(gallery(), "internlm2_7b").name, "models/internlm2_7b");
  EXPECT_EQ(find_in_gallery(gallery(), "runs/pretrain_synthetic.yaml").name,
            "runs/pretrain_synthetic");
  EXPECT_EQ(error_line([] { find_in_gallery(gallery(), "internlm2_8b"); }),
            "error[2]: unknown configuration internlm2_8b; nearest: internlm2_7b\n"
            "hint: inkstone config list shows all");
  EXPECT_EQ(find_in_gallery(gallery(), "runs/bench_100m").name, "runs/bench_100m");
  EXPECT_EQ(error_line([] { find_in_gallery(gallery(), "bench_100m"); }),
            "error[2]: expected one configuration, got bench_100m for both models/bench_100m and "
            "runs/bench_100m");
}

TEST(Gallery, ACopyStandsAlone) {
  const TemporaryFolder folder;
  const fs::path copy = copy_from_gallery(gallery(), "pretrain_synthetic", folder.path());
  EXPECT_EQ(copy, folder.path() / "pretrain_synthetic.yaml");
  std::stringstream text;
  text << std::ifstream(copy).rdbuf();
  EXPECT_TRUE(text.str().starts_with("# Pretrain")) << text.str();
  EXPECT_EQ(text.str().find("base:"), std::string::npos);
  EXPECT_EQ(load_run(copy.string()).options,
            load_run((gallery() / "runs/pretrain_synthetic.yaml").string()).options);
  EXPECT_EQ(error_line([&] {
              copy_from_gallery(gallery(), "pretrain_synthetic", folder.path());
            }).substr(0, 9),
            "error[4]:");
}

TEST(Gallery, IsFoundFromEnvironmentInstallAndBuildFolder) {
  const TemporaryFolder root;
  for (const char* folder : {"share/inkstone/configs/models", "share/inkstone/configs/runs", "bin",
                             "tree/configs/models", "tree/configs/runs", "tree/build/x/launch"})
    fs::create_directories(root.path() / folder);
  EXPECT_EQ(find_gallery(gallery().string(), "inkstone"), gallery());
  EXPECT_EQ(find_gallery("", root.path() / "bin/inkstone"), root.path() / "share/inkstone/configs");
  EXPECT_EQ(find_gallery("", root.path() / "tree/build/x/launch/inkstone"),
            root.path() / "tree/configs");
  EXPECT_EQ(error_line([&] { find_gallery(root.path().string(), "inkstone"); }).substr(0, 9),
            "error[3]:");
  EXPECT_EQ(error_line([&] { find_gallery("", "/inkstone"); }).substr(0, 9), "error[3]:");
}

TEST(Gallery, CheckPrintsTheResolvedRun) {
  const std::string text = check_config((gallery() / "runs/pretrain_internlm2_tiny.yaml").string());
  EXPECT_NE(text.find("hidden_size: 256"), std::string::npos);
  EXPECT_NE(text.find("dir: runs/pretrain_internlm2_tiny"), std::string::npos);
  EXPECT_EQ(read_error(text), "");
}

}  // namespace
}  // namespace ink
