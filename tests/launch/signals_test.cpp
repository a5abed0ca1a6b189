#include "launch/trainer/signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace ink {
namespace {

// Of a process that gets them: the signal that asked to stop.
void receive(std::initializer_list<int> signals) {
  install_signal_handlers();
  for (const int signal : signals) static_cast<void>(std::raise(signal));
  _exit(stop_signal());
}

TEST(SignalsDeathTest, TheSecondRequestLeavesAtOnce) {
  for (const int second : {SIGINT, SIGTERM}) {
    EXPECT_EXIT(receive({SIGINT, second}), testing::ExitedWithCode(128 + second), "");
    EXPECT_EXIT(receive({SIGTERM, SIGUSR1, second}), testing::ExitedWithCode(128 + second), "");
  }
}

TEST(SignalsDeathTest, Usr1StandsBesideARequest) {
  EXPECT_EXIT(receive({SIGUSR1}), testing::ExitedWithCode(SIGUSR1), "");
  EXPECT_EXIT(receive({SIGUSR1, SIGUSR1}), testing::ExitedWithCode(SIGUSR1), "");
  EXPECT_EXIT(receive({SIGUSR1, SIGINT}), testing::ExitedWithCode(SIGINT), "");
  EXPECT_EXIT(receive({SIGTERM, SIGUSR1}), testing::ExitedWithCode(SIGTERM), "");
}

TEST(SignalsDeathTest, WritesThatFailReturn) {
  EXPECT_EXIT(receive({SIGPIPE, SIGXFSZ}), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ink
