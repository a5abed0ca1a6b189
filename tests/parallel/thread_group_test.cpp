// The cases of every transport on thread ranks and on a group of one; how waits end when a rank
// leaves, hangs or aborts; the flight recorder.
#include "parallel/comm/thread_group.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "parallel/comm/self_group.h"
#include "tests/parallel/group_cases.h"
#include "tests/support/group_ranks.h"

namespace ink {
namespace {

using Param = std::tuple<GroupCase, int>;

class ThreadGroup : public testing::TestWithParam<Param> {};

TEST_P(ThreadGroup, Case) {
  const auto& [group_case, size] = GetParam();
  run_group(size,
            [&group_case = group_case](ProcessGroup& group) {
              Runtime runtime;
              group_case.run(runtime, group);
            },
            {std::chrono::seconds(60)});
}

INSTANTIATE_TEST_SUITE_P(Cases, ThreadGroup,
                         testing::Combine(testing::ValuesIn(group_cases().begin(),
                                                            group_cases().end()),
                                          testing::Values(1, 2, 3, 4)),
                         [](const testing::TestParamInfo<Param>& info) {
                           return fmt::format("{}_{}", std::get<0>(info.param).name,
                                              std::get<1>(info.param));
                         });

class SelfGroup : public testing::TestWithParam<GroupCase> {};

TEST_P(SelfGroup, Case) {
  Runtime runtime;
  const auto group = make_self_group();
  GetParam().run(runtime, *group);
}

INSTANTIATE_TEST_SUITE_P(Cases, SelfGroup,
                         testing::ValuesIn(group_cases().begin(), group_cases().end()),
                         [](const auto& info) { return std::string(info.param.name); });

// Runs f and returns the text of the Error 6 it must throw.
std::string peer_error(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ExitCode::kPeer));
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(ThreadGroupFaults, AbortEndsTheWaitsOfAll) {
  const auto groups = make_thread_groups(3, {std::chrono::seconds(60)});
  run_ranks(3, [&](int rank) {
    ProcessGroup& group = *groups[static_cast<size_t>(rank)];
    if (rank == 2) {
      group.abort("rank 2 met a bad row");
      return;
    }
    EXPECT_EQ(peer_error([&] { group.barrier(); }), "rank 2 met a bad row");
    EXPECT_EQ(peer_error([&] { group.barrier(); }), "rank 2 met a bad row") << "a later call";
  });
}

TEST(ThreadGroupFaults, AbortReachesTheGroupsThatWereSplitOff) {
  const auto groups = make_thread_groups(3, {std::chrono::seconds(60)});
  run_ranks(3, [&](int rank) {
    ProcessGroup& group = *groups[static_cast<size_t>(rank)];
    const auto part = group.split(0, rank);
    if (rank == 2) {
      group.abort("rank 2 left");
      return;
    }
    EXPECT_EQ(peer_error([&] { part->barrier(); }), "rank 2 left");
  });
}

TEST(ThreadGroupFaults, MissingRankEndsInATimeOutThatNamesTheCall) {
  const auto groups = make_thread_groups(2, {std::chrono::seconds(1)});
  Runtime runtime;
  const Tensor t = zeros(runtime, {5}, DType::kF32);
  const std::string text = peer_error([&] { groups[0]->all_reduce(t, ReduceOp::kSum)->wait(); });
  EXPECT_NE(text.find("time-out after 1 s in all_reduce (call 1, 20 bytes, rank 0 of 2)"),
            std::string::npos)
      << text;
  EXPECT_LT(groups[0]->recorder().last().completed_at, 0) << "the call is shown as complete";
  // Who comes late finds the group ended.
  peer_error([&] { groups[1]->all_reduce(t, ReduceOp::kSum)->wait(); });
}

TEST(FlightRecorder, KeepsTheLastCalls) {
  FlightRecorder recorder;
  EXPECT_EQ(recorder.last().sequence, 0);
  EXPECT_TRUE(recorder.records().empty());
  constexpr int64_t kCalls = FlightRecorder::kCapacity + 44;
  for (int64_t i = 1; i <= kCalls; ++i) {
    EXPECT_EQ(recorder.issue("all_reduce", 10 * i), i);
    if (i < kCalls) recorder.complete(i);
  }
  recorder.complete(1);  // long overwritten
  const auto records = recorder.records();
  ASSERT_EQ(records.size(), FlightRecorder::kCapacity);
  EXPECT_EQ(records.front().sequence, 45);
  EXPECT_EQ(records.back().sequence, kCalls);
  EXPECT_GE(records.front().completed_at, records.front().issued_at);
  EXPECT_LT(records.back().completed_at, 0);

  std::istringstream lines(recorder.dump("world", 3));
  std::string line;
  int64_t sequence = 45;
  while (std::getline(lines, line)) {
    const nlohmann::json row = nlohmann::json::parse(line);
    EXPECT_EQ(row["sequence"], sequence);
    EXPECT_EQ(row["bytes"], 10 * sequence);
    EXPECT_EQ(row["op"], "all_reduce");
    EXPECT_EQ(row["group"], "world");
    EXPECT_EQ(row["rank"], 3);
    EXPECT_EQ(row["completed_at"].get<double>() < 0, sequence == kCalls);
    ++sequence;
  }
  EXPECT_EQ(sequence, kCalls + 1);
}

}  // namespace
}  // namespace ink
