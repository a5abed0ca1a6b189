// InternEvo's log line (train/pipeline.py, early 2025), for train.compat.log_line: `key=value `
// pairs in its order, numbers as Python prints them, so that scripts made for its logs read ours.
//
// ReferenceRow is plain data, filled by the trainer (launch/trainer/reference_log.h); here is the
// text, and the speeds that the line derives from the steps before.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

namespace ink {

// Over the trained tokens of one type of text.
struct TypeRow {
  std::string name;
  double accuracy = 0, loss = 0;
  int64_t tokens = 0;
};

// Tokens, padding included, per device and second.
struct SpeedRow {
  double last = 0, all = 0, average = 0, sma = 0;  // step, run, mean of steps, last 50 steps
  double last_10 = 0, last_50 = 0;                 // refreshed every 10 and 50 steps
};

struct ReferenceRow {
  int64_t step = 0;  // from 0
  double tflops = 0, loss = 0, real_tgs = 0;
  SpeedRow speed;
  double lr = 0, loss_scale = 1;
  std::vector<std::pair<std::string, double>> grad_norm;  // by group
  int64_t micro_num = 0, consumed_tokens = 0, skipped = 0;
  // Documents of the step, length of the longest, most and fewest in a micro-batch.
  int64_t samples = 0, largest_length = 0, largest_batch = 0, smallest_batch = 0;
  double beta2 = 0, forward_backward_time = 0, backward_time = 0;  // seconds; NaN: not known
  double accuracy = 0, loss_from_metric = 0;                       // over the trained tokens
  std::vector<TypeRow> types;
  std::string skip_reason;  // as in StepRow; shown behind the line
};

[[nodiscard]] std::string reference_line(const ReferenceRow& row);
// A number as Python's repr shows it: `65536.0`, `1e-05`.
[[nodiscard]] std::string python_number(double value);

class SpeedHistory {
 public:
  // Of one device.
  [[nodiscard]] SpeedRow add(double tokens, double seconds);

 private:
  struct Sum {
    double tokens = 0, seconds = 0;
    void add(double more_tokens, double more_seconds);
    [[nodiscard]] double rate() const;
  };
  static constexpr size_t kWindow = 50;

  int64_t steps_ = 0;
  double sum_of_rates_ = 0;
  Sum all_, last_10_, last_50_;
  std::deque<Sum> window_;
  SpeedRow row_;
};

}  // namespace ink
