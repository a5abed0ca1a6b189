#include "engine/io/choice_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "engine/core/error.h"
#include "tests/io/temporary_folder.h"

namespace ink {
namespace {

constexpr const char* kCard = "card A, driver 1";

class ChoiceFileTest : public ::testing::Test {
 protected:
  [[nodiscard]] ChoiceFile file(const std::string& machine = kCard) const {
    return {folder_.path() / "not" / "there yet", "gemm", machine};
  }
  TemporaryFolder folder_;
};

TEST_F(ChoiceFileTest, IsEmptyBeforeAnythingWasKept) {
  std::string notice;
  EXPECT_TRUE(file().load(notice).empty());
  EXPECT_EQ(notice, "");
}

TEST_F(ChoiceFileTest, KeepsWhatSeveralRunsAdd) {
  file().add({{"m1", "a"}, {"m2", "b"}});
  file().add({{"m2", "c"}, {"m3", "d"}});
  std::string notice;
  EXPECT_EQ(file().load(notice), (Choices{{"m1", "a"}, {"m2", "c"}, {"m3", "d"}}));
  EXPECT_EQ(notice, "");
}

TEST_F(ChoiceFileTest, AnotherMachineHasItsOwn) {
  file().add({{"m1", "a"}});
  std::string notice;
  EXPECT_TRUE(file("card A, driver 2").load(notice).empty());
  EXPECT_NE(file("card A, driver 2").path(), file().path());
}

TEST_F(ChoiceFileTest, ADamagedFileIsPassedOverWithANoticeAndReplaced) {
  for (
      const char* damage :
      {"", "{", "[]", R"({"format": "inkstone choices 1"})",
       R"({"format": "inkstone choices 9", "machine": "card A, driver 1", "choices": {}})",
       R"({"format": "inkstone choices 1", "machine": "card A, driver 1", "choices": {"a": 1}})"}) {
    file().add({{"m1", "a"}});
    std::ofstream(file().path(), std::ios::trunc) << damage;
    std::string notice;
    EXPECT_TRUE(file().load(notice).empty()) << damage;
    EXPECT_NE(notice.find(file().path().string()), std::string::npos) << notice;
    file().add({{"m2", "b"}});
    notice.clear();
    EXPECT_EQ(file().load(notice), (Choices{{"m2", "b"}}));
    EXPECT_EQ(notice, "");
  }
}

TEST_F(ChoiceFileTest, WithoutADirectoryNothingIsKept) {
  const ChoiceFile none({}, "gemm", kCard);
  none.add({{"m1", "a"}});
  std::string notice;
  EXPECT_TRUE(none.load(notice).empty());
  EXPECT_EQ(notice, "");
}

TEST(Choices, RoundTripThroughJsonOnOneMachineOnly) {
  const Choices choices{{"m1", "a"}, {"\"quoted\"", ""}};
  const nlohmann::json json = choices_to_json(kCard, choices);
  EXPECT_EQ(choices_from_json(json, kCard, "manifest"), choices);
  EXPECT_EQ(choices_from_json(json, "card B", "manifest"), std::nullopt);
  EXPECT_THROW((void)choices_from_json(nlohmann::json::array(), kCard, "manifest"), Error);
}

}  // namespace
}  // namespace ink
