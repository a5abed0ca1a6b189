#include "launch/trainer/rollbacks.h"

#include <gtest/gtest.h>

#include "engine/core/error.h"

namespace ink {
namespace {

using nlohmann::json;

TEST(Rollbacks, ReadBackWhatWasWritten) {
  const Rollbacks before{.count = 2, .passed_over = {{26, 26}, {3, 9}}};
  const Rollbacks after = Rollbacks::from_json(json::parse(before.to_json().dump()), "here");
  EXPECT_EQ(after.count, 2);
  EXPECT_EQ(after.passed_over, before.passed_over);
}

TEST(Rollbacks, RefuseWhatNoRunWrote) {
  const json bad[] = {json::array(),
                      {{"count", 1}},
                      {{"count", 0}, {"passed_over", json::array()}},
                      {{"count", 1}, {"passed_over", 3}},
                      {{"count", 1}, {"passed_over", {3, 4}}},
                      {{"count", 1}, {"passed_over", {{4, 3}}}},
                      {{"count", 1}, {"passed_over", {{0, 3}}}},
                      {{"count", 1}, {"passed_over", {{1, 2, 3}}}},
                      {{"count", 1}, {"passed_over", {{"1", "2"}}}}};
  for (const json& one : bad) {
    try {
      static_cast<void>(Rollbacks::from_json(one, "here"));
      ADD_FAILURE() << one;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput) << one;
    }
  }
}

}  // namespace
}  // namespace ink
