// The lines a person reads, character by character.
#include "launch/report/console.h"

#include <limits>

#include "tests/report/rows.h"

namespace ink {
namespace {

TEST(ConsoleLine, IsTheDocumentedForm) {
  EXPECT_EQ(step_line(example_step(120), 3792),
            "step   120/3000   4.0%  loss 2.1034  lr 9.00e-05  |g| 0.936  2677 tok/s  mfu 41.2%  "
            "mem 6.31/8.00 GB  skip 0  data 0.8%  eta 1:03:12");
}

TEST(ConsoleLine, WithoutALimitShowsThePeakAlone) {
  StepRow row = example_step(120);
  row.mem_limit = 0;
  EXPECT_NE(step_line(row, 1).find("  mem 6.31 GB  "), std::string::npos);
}

TEST(ConsoleLine, ColumnsStayWhereTheyAre) {
  StepRow large = example_step(3000, 10.9876543);
  large.grad_norm = 12.34567;
  large.tokens_per_s = 9999;
  large.mfu.reset();
  const std::string a = step_line(example_step(1), 10), b = step_line(large, std::nullopt);
  for (const char* column : {"  loss ", "  lr ", "  |g| ", " tok/s", "  mem ", "  skip ", "  eta "})
    EXPECT_EQ(a.find(column), b.find(column)) << column << "\n" << a << "\n" << b;
  EXPECT_NE(b.find("loss 10.988  "), std::string::npos) << b;
  EXPECT_NE(b.find("mfu     -  "), std::string::npos) << b;
  EXPECT_TRUE(b.ends_with("eta -")) << b;
}

TEST(ConsoleLine, SaysWhyAStepMadeNoUpdate) {
  StepRow row = example_step(7, std::numeric_limits<double>::quiet_NaN());
  row.grad_norm = std::numeric_limits<double>::infinity();
  row.skipped = 1;
  row.loss_scale = 65536;
  row.skip_reason = "non-finite";
  const std::string line = step_line(row, 5);
  EXPECT_NE(line.find("loss    nan"), std::string::npos) << line;
  EXPECT_NE(line.find("skip 1  scale 65536  data"), std::string::npos) << line;
  EXPECT_TRUE(line.ends_with("no update: non-finite")) << line;
  row.skip_reason = "skip_steps";
  EXPECT_NE(step_line(row, 5).find("loss      -  "), std::string::npos);
}

TEST(ClockText, CountsDays) {
  EXPECT_EQ(clock_text(0), "0:00:00");
  EXPECT_EQ(clock_text(3792.4), "1:03:12");
  EXPECT_EQ(clock_text(3 * 86400 + 3792), "3d 01:03:12");
}

TEST(Eta, IsTheMedianOfTheStepsAfterWarmUp) {
  EtaEstimate eta;
  for (int64_t step = 1; step <= 3; ++step) {
    StepRow slow = example_step(step);
    slow.step_time = 100;  // start-up
    eta.add(slow);
    EXPECT_FALSE(eta.seconds()) << step;
  }
  for (int64_t step = 4; step <= 10; ++step) {
    StepRow row = example_step(step);
    row.step_time = step == 6 ? 500 : 2;  // one step met a save
    eta.add(row);
  }
  ASSERT_TRUE(eta.seconds());
  EXPECT_DOUBLE_EQ(*eta.seconds(), 2.0 * (3000 - 10));
  // The window moves: fifty faster steps leave nothing of the old pace.
  for (int64_t step = 11; step <= 60; ++step) {
    StepRow row = example_step(step);
    row.step_time = 1;
    eta.add(row);
  }
  EXPECT_DOUBLE_EQ(*eta.seconds(), 1.0 * (3000 - 60));
}

TEST(Console, ShowsOnStderrWithColorOnlyWhenAsked) {
  const TemporaryFolder folder;
  testing::internal::CaptureStderr();
  Console(folder / "a.txt", false, true).show("careful", Tone::kWarning);
  Console(folder / "b.txt", false, false).show("plain", Tone::kWarning);
  Console(folder / "c.txt", true, true).show("silent", Tone::kWarning);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "\033[33mcareful\033[0m\nplain\n");
  EXPECT_EQ(file_text(folder / "a.txt"), "careful\n");
  EXPECT_EQ(file_text(folder / "c.txt"), "silent\n");
}

}  // namespace
}  // namespace ink
