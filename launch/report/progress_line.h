// How far something has come that takes long, on stderr: what is shown is gone again when it ends.
//
// On a terminal one line that is written over; elsewhere plain lines without control codes, one
// every ten seconds at most, so that a short job leaves none. Quiet: nothing.
#pragma once

#include <chrono>
#include <string>

namespace ink {

class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  void show(const std::string& text);

 private:
  enum class Form { kNone, kTerminal, kLines };

  Form form_;
  bool shown_ = false;  // on a terminal
  std::chrono::steady_clock::time_point told_ = std::chrono::steady_clock::now();
};

}  // namespace ink
