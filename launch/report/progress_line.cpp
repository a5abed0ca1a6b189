#include "launch/report/progress_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace ink {
namespace {
constexpr std::chrono::seconds kBetweenLines{10};
}

ProgressLine::ProgressLine(bool quiet)
    : form_(quiet                        ? Form::kNone
            : isatty(STDERR_FILENO) != 0 ? Form::kTerminal
                                         : Form::kLines) {}

ProgressLine::~ProgressLine() {
  if (shown_) fmt::print(stderr, "\r\x1b[K");
}

void ProgressLine::show(const std::string& text) {
  if (form_ == Form::kNone) return;
  if (form_ == Form::kTerminal) {
    fmt::print(stderr, "\r\x1b[K{}", text);
    std::fflush(stderr);
    shown_ = true;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (now - told_ < kBetweenLines) return;
  told_ = now;
  fmt::print(stderr, "{}\n", text);
}

}  // namespace ink
