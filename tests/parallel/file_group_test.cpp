// The cases of every transport for ranks that meet in a folder; how waits end when a rank leaves or
// stays away; which folders are refused.
#include "parallel/comm/file_group.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/io/temporary_folder.h"
#include "tests/parallel/group_cases.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

using Param = std::tuple<GroupCase, int>;

class FileGroup : public testing::TestWithParam<Param> {};

TEST_P(FileGroup, Case) {
  const auto& [group_case, size] = GetParam();
  const TemporaryFolder meeting;
  run_ranks(size, [&, &group_case = group_case, size = size](int rank) {
    const auto group = make_file_group(meeting.path(), rank, size, {std::chrono::seconds(60)});
    Runtime runtime;
    group_case.run(runtime, *group);
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, FileGroup,
                         testing::Combine(testing::ValuesIn(group_cases().begin(),
                                                            group_cases().end()),
                                          testing::Values(1, 2, 3)),
                         [](const testing::TestParamInfo<Param>& info) {
                           return fmt::format("{}_{}", std::get<0>(info.param).name,
                                              std::get<1>(info.param));
                         });

// Runs f and returns the text of the Error of that code that it must throw.
std::string error_of(ExitCode code, const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(FileGroupFaults, AbortEndsTheWaitsOfAll) {
  const TemporaryFolder meeting;
  run_ranks(2, [&](int rank) {
    const auto group = make_file_group(meeting.path(), rank, 2);
    group->barrier();
    const std::string text = error_of(ExitCode::kPeer, [&] {
      if (rank == 1) group->abort("rank 1 met a bad row");
      group->barrier();
    });
    EXPECT_EQ(text, "rank 1 met a bad row");
  });
}

TEST(FileGroupFaults, AnAbsentRankEndsInATimeOutThatNamesTheCall) {
  const TemporaryFolder meeting;
  const auto group = make_file_group(meeting.path(), 0, 2, {std::chrono::seconds(1)});
  Runtime runtime;
  const Tensor t = zeros(runtime, {5}, DType::kF32);
  const std::string text =
      error_of(ExitCode::kPeer, [&] { group->all_reduce(t, ReduceOp::kSum)->wait(); });
  EXPECT_NE(text.find("rank 0 of 2 waited 1."), std::string::npos) << text;
  EXPECT_NE(text.find("in all_reduce (call 1, 20 bytes)"), std::string::npos) << text;
}

TEST(FileGroupFaults, AFolderThatOthersMayWriteIsRefused) {
  const TemporaryFolder meeting;
  fs::permissions(meeting.path(), fs::perms::group_write, fs::perm_options::add);
  const std::string text = error_of(
      ExitCode::kConfig, [&] { static_cast<void>(make_file_group(meeting.path(), 0, 1)); });
  EXPECT_NE(text.find("closed to others, got mode 720"), std::string::npos) << text;
  EXPECT_NE(error_of(ExitCode::kConfig,
                     [&] { static_cast<void>(make_file_group(meeting.path() / "none", 0, 1)); })
                .find("got none"),
            std::string::npos);
}

TEST(FileGroupFaults, AFolderOfAnEarlierJobIsRefused) {
  const TemporaryFolder meeting;
  make_file_group(meeting.path(), 0, 1)->barrier();
  const std::string text = error_of(
      ExitCode::kConfig, [&] { static_cast<void>(make_file_group(meeting.path(), 0, 1)); });
  EXPECT_NE(text.find("expected an unused folder, got one with 1.0"), std::string::npos) << text;
}

}  // namespace
}  // namespace ink
