// The generated reference of keys.
#include "configs/schema/reference.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "configs/schema/describe.h"
#include "configs/schema/keys.h"

namespace ink {
namespace {

TEST(Reference, PageInTheTreeIsUpToDate) {
  std::ifstream file(std::string(INKSTONE_SOURCE_DIR) + "/docs/run-file.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), reference_page())
      << "write it anew: inkstone config doc --markdown > docs/run-file.md";
}

TEST(Reference, EveryKeyHasAHelpTextOnce) {
  std::set<std::string> keys;
  for (const KeyRow& row : describe_run()) {
    EXPECT_FALSE(row.help.empty()) << row.key;
    EXPECT_TRUE(keys.insert(row.key).second) << row.key;
  }
  for (const char* key : {"optim.lr", "data.train[].path", "data.eval.fraction", "data.eval[].name",
                          "model.rope_scaling.factor", "faults.nan_gradient.rank"})
    EXPECT_TRUE(keys.contains(key)) << key;
}

TEST(Reference, TextShowsTypeRangeAndDefault) {
  const std::string text = reference_text("optim.lr");
  EXPECT_EQ(text, "optim.lr  number above 0  0.0003  peak learning rate\n");
  EXPECT_NE(reference_text().find("train.recompute"), std::string::npos);
  EXPECT_EQ(reference_text("no such key"), "");
}

// A foreign name leads to a key that exists or is reserved; a reserved key does not exist.
TEST(ForeignKeys, LeadSomewhere) {
  std::set<std::string, std::less<>> keys;
  for (const KeyRow& row : describe_run()) keys.insert(row.key);
  const auto is_planned = [](std::string_view key) {
    for (const std::string_view planned : planned_keys())
      if (key == planned || key.starts_with(std::string(planned) + ".")) return true;
    return false;
  };
  for (const ForeignKey& foreign : foreign_keys())
    EXPECT_TRUE(keys.contains(foreign.ours) || is_planned(foreign.ours)) << foreign.name;
  for (const std::string_view planned : planned_keys())
    EXPECT_FALSE(keys.contains(planned)) << planned;
}

}  // namespace
}  // namespace ink
