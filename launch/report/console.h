// The lines that a person reads: on the console and, without colour, in log.txt.
//
// RunLog calls the functions to turn rows into text and Console to show it. The form of the step
// line is fixed: columns keep their width while a run lasts, values that are not known are `-`.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "launch/report/append_file.h"
#include "launch/report/run_log.h"

namespace ink {

// Seconds left, from the median of the last step times; the first steps of a part pay for start-up
// and are left out.
class EtaEstimate {
 public:
  void add(const StepRow& row);
  [[nodiscard]] std::optional<double> seconds() const;  // nothing while warming up

 private:
  static constexpr int kWarmUp = 3;
  static constexpr size_t kWindow = 50;

  int seen_ = 0;
  int64_t left_ = 0;  // steps
  std::deque<double> times_;
};

[[nodiscard]] std::string clock_text(double seconds);  // 1:03:12, 3d 01:03:12
// `step   120/3000   4.0%  loss 2.1034  lr 9.00e-05  |g| 0.936  2677 tok/s  mfu 41.2%  ...`
[[nodiscard]] std::string step_line(const StepRow& row, std::optional<double> eta);
[[nodiscard]] std::string run_block(const RunRow& row, const std::string& directory);
[[nodiscard]] std::string eval_lines(const EvalRow& row);
[[nodiscard]] std::string checkpoint_line(const CheckpointRow& row);
[[nodiscard]] std::string sample_block(const SampleRow& row);
[[nodiscard]] std::string spike_line(const SpikeRow& row);
[[nodiscard]] std::string rollback_line(const RollbackRow& row);
[[nodiscard]] std::string self_check_line(const SelfCheckRow& row);
[[nodiscard]] std::string end_line(const EndRow& row);

enum class Tone { kPlain, kQuiet, kGood, kWarning };

class Console {
 public:
  Console(const std::filesystem::path& log_file, bool quiet, bool color);
  // `text` may have several lines and ends without a line break.
  void show(const std::string& text, Tone tone = Tone::kPlain);

 private:
  AppendFile log_;
  bool quiet_, color_;
};

}  // namespace ink
