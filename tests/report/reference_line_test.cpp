// InternEvo's log line, as text, and the speeds in it.
#include "launch/report/reference_line.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ink {
namespace {

TEST(ReferenceLine, NumbersAreThoseOfPython) {
  EXPECT_EQ(python_number(65536), "65536.0");
  EXPECT_EQ(python_number(1e-5), "1e-05");
  EXPECT_EQ(python_number(4.0000000000000003e-07), "4.0000000000000003e-07");
  EXPECT_EQ(python_number(0.95), "0.95");
  EXPECT_EQ(python_number(0), "0.0");
  EXPECT_EQ(python_number(NAN), "nan");
  EXPECT_EQ(python_number(INFINITY), "inf");
}

// Keys and their order as in spec and logs of the reference, two types of text.
TEST(ReferenceLine, AWholeLine) {
  ReferenceRow row{.step = 199, .tflops = 252.5, .loss = 0.5, .real_tgs = 2055.594};
  row.speed = {
      .last = 2511.366, .all = 2481.8, .average = 2511, .sma = 2510.99, .last_10 = 2510.67};
  row.lr = 1e-5;
  row.loss_scale = 65536;
  row.grad_norm = {{"0_default", 0.25}, {"1_fp32", 0}};
  row.micro_num = 8;
  row.consumed_tokens = 209715200;
  row.samples = 12;
  row.largest_length = 2672;
  row.largest_batch = 4;
  row.smallest_batch = 2;
  row.beta2 = 0.95;
  row.forward_backward_time = 12.871;
  row.backward_time = NAN;
  row.accuracy = 0.99916;
  row.loss_from_metric = 0;
  row.types = {{.name = "en", .accuracy = 0.99916, .loss = 0.00061, .tokens = 858249},
               {.name = "cn", .accuracy = 0, .loss = NAN, .tokens = 0}};
  const std::string line =
      "tflops=252.5 step=199 loss=0.5 real_tgs=2055.59 tgs (tokens/gpu/second)=2511.37 "
      "tgs/last_tgs_1=2511.37 tgs/tgs_all=2481.8 tgs/tgs_avg=2511.0 tgs/tgs_SMA=2510.99 "
      "tgs/last_tgs_10=2510.67 tgs/last_tgs_50=0 lr=1e-05 loss_scale=65536.0 "
      "grad_norm={'0_default': 0.25, '1_fp32': 0.0} micro_num=8 num_consumed_tokens=209715200 "
      "inf_nan_skip_batches=0 num_samples_in_batch=12 largest_length=2672 largest_batch=4 "
      "smallest_batch=2 adam_beta2=0.95 fwd_bwd_time=12.87 bwd_time=nan acc=0.9992 perplexity=1.0 "
      "acc/en=0.9992 acc/cn=0.0 tokens/en=858249 tokens/cn=0 loss_from_metric=0.0 loss/en=0.0006 "
      "loss/cn=nan ";
  EXPECT_EQ(reference_line(row), line);
  row.skip_reason = "non-finite";
  EXPECT_EQ(reference_line(row), line + "no_update=non-finite ");
}

// 100 tokens a step: 50 steps of one second, then 10 of half a second.
TEST(SpeedHistory, WindowsAndMeansByHand) {
  SpeedHistory history;
  SpeedRow row;
  for (int step = 1; step <= 9; ++step) row = history.add(100, 1);
  EXPECT_EQ(row.last_10, 0);
  for (int step = 10; step <= 50; ++step) row = history.add(100, 1);
  EXPECT_DOUBLE_EQ(row.last_10, 100);
  EXPECT_DOUBLE_EQ(row.last_50, 100);
  for (int step = 51; step <= 60; ++step) row = history.add(100, 0.5);
  EXPECT_DOUBLE_EQ(row.last, 200);
  EXPECT_DOUBLE_EQ(row.last_10, 200);
  EXPECT_DOUBLE_EQ(row.last_50, 100);  // of step 50
  EXPECT_DOUBLE_EQ(row.all, 6000 / 55.0);
  EXPECT_DOUBLE_EQ(row.average, (50 * 100 + 10 * 200) / 60.0);
  EXPECT_DOUBLE_EQ(row.sma, 5000 / 45.0);
}

}  // namespace
}  // namespace ink
