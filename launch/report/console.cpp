#include "launch/report/console.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

namespace ink {
namespace {

// At least `digits` decimals as long as the text fits `width`, fewer for larger values.
std::string fitted(double value, int digits, size_t width) {
  if (!std::isfinite(value)) return fmt::format("{:>{}}", value, width);
  std::string text;
  for (; digits >= 0; --digits) {
    text = fmt::format("{:.{}f}", value, digits);
    if (text.size() <= width) break;
  }
  return fmt::format("{:>{}}", text, width);
}

std::string percent(std::optional<double> share) {
  return share ? fmt::format("{:.1f}%", 100 * *share) : "-";
}

double gigabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

std::string memory_text(const StepRow& row) {
  if (row.mem_limit <= 0) return fmt::format("{:.2f} GB", gigabytes(row.mem_peak));
  return fmt::format("{:.2f}/{:.2f} GB", gigabytes(row.mem_peak), gigabytes(row.mem_limit));
}

std::string size_text(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes < 1'000'000'000 ? fmt::format("{:.1f} MB", value / 1e6)
                               : fmt::format("{:.2f} GB", value / 1e9);
}

double share_of(double part, double whole) { return whole > 0 ? part / whole : 0; }

// 123456789 -> 123,456,789
std::string grouped(int64_t value) {
  std::string text = std::to_string(value);
  for (auto at = static_cast<int64_t>(text.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3)
    text.insert(static_cast<size_t>(at), 1, ',');
  return text;
}

const char* color_of(Tone tone) {
  switch (tone) {
    case Tone::kPlain:
      return "";
    case Tone::kQuiet:
      return "\033[2m";
    case Tone::kGood:
      return "\033[32m";
    case Tone::kWarning:
      return "\033[33m";
  }
  return "";
}

}  // namespace

void EtaEstimate::add(const StepRow& row) {
  left_ = row.total_steps - row.step;
  if (row.skip_reason == "skip_steps" || ++seen_ <= kWarmUp) return;
  times_.push_back(row.step_time);
  if (times_.size() > kWindow) times_.pop_front();
}

std::optional<double> EtaEstimate::seconds() const {
  if (left_ <= 0) return 0;
  if (times_.empty()) return std::nullopt;
  std::vector<double> sorted(times_.begin(), times_.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle * static_cast<double>(left_);
}

std::string clock_text(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  const std::string clock = fmt::format("{}:{:02}:{:02}", s / 3600 % 24, s / 60 % 60, s % 60);
  return s < 86400 ? clock : fmt::format("{}d {:0>8}", s / 86400, clock);
}

std::string step_line(const StepRow& row, std::optional<double> eta) {
  const std::string total = std::to_string(row.total_steps);
  const bool updated = row.skip_reason.empty();
  std::string line = fmt::format(
      "step  {:>{}}/{} {:>5.1f}%  loss {}  lr {:.2e}  |g| {}  {:>4.0f} tok/s  mfu {:>5}  mem {}  "
      "skip {}",
      row.step, total.size(), total,
      100 * share_of(static_cast<double>(row.step), static_cast<double>(row.total_steps)),
      row.computed() ? fitted(row.loss, 4, 6) : "     -", row.lr,
      row.computed() ? fitted(row.grad_norm, 3, 5) : "    -", row.tokens_per_s, percent(row.mfu),
      memory_text(row), row.skipped);
  if (row.loss_scale != 1) line += fmt::format("  scale {:.0f}", row.loss_scale);
  line += fmt::format("  data {}  eta {}", percent(share_of(row.data_time, row.step_time)),
                      eta ? clock_text(*eta) : "-");
  if (row.reference_tflops) line += fmt::format("  reference {:.3f} TFLOPS", *row.reference_tflops);
  if (!updated) line += fmt::format("  no update: {}", row.skip_reason);
  return line;
}

std::string run_block(const RunRow& row, const std::string& directory) {
  const double share =
      share_of(static_cast<double>(row.trainable), static_cast<double>(row.parameters));
  std::string text = fmt::format(
      "command  {}\n"
      "model    {}\n"
      "         {} parameters, {} trainable ({:.1f}%)\n"
      "layout   {}\n"
      "devices  {}\n"
      "machine  {}, {}\n"
      "steps    {} of {}{} tokens, {} per epoch\n"
      "run dir  {}  (log.txt, metrics.jsonl, config {})",
      row.command, row.model, grouped(row.parameters), grouped(row.trainable), 100 * share,
      row.layout, row.devices, row.instruction_set, row.libraries, row.total_steps,
      row.tokens_vary ? "about " : "", grouped(row.tokens_per_step), row.steps_per_epoch, directory,
      row.config_hash);
  if (!row.resumed_from.empty()) text += "\nresumed  " + row.resumed_from;
  return text;
}

std::string eval_lines(const EvalRow& row) {
  std::string text;
  for (const EvalSetRow& set : row.sets)
    text += fmt::format(
        "{}eval  step {}  {}  loss {}  perplexity {:.2f}  accuracy {:.1f}%  {} tokens  {:.1f} s",
        text.empty() ? "" : "\n", row.step, set.name, fitted(set.loss, 4, 6), std::exp(set.loss),
        100 * set.accuracy, grouped(set.tokens), row.seconds);
  return text;
}

std::string checkpoint_line(const CheckpointRow& row) {
  return fmt::format("save  step {}  {}  {} in {:.1f} s{}{}", row.step, row.path,
                     size_text(row.bytes), row.seconds, row.best ? "  best" : "",
                     row.loss_spike ? "  in a loss spike" : "");
}

std::string sample_block(const SampleRow& row) {
  return fmt::format("sample  step {}  {} tokens  {}\n  prompt: {}\n  text:   {}", row.step,
                     row.tokens, row.stop_reason, row.prompt, row.text);
}

std::string spike_line(const SpikeRow& row) {
  return fmt::format(
      "step {}: the loss {:.4f} is {:.1f} times {:.4f}, the median of the steps before it; packs "
      "{}; {}",
      row.step, row.loss, row.loss / row.reference, row.reference, fmt::join(row.packs, " "),
      row.action == "skip" ? "no update was made" : "the update was made");
}

std::string rollback_line(const RollbackRow& row) {
  return fmt::format("rollback {} at step {}: back to step {}, then without step{}", row.count,
                     row.step, row.to,
                     row.first == row.last ? fmt::format(" {}", row.first)
                                           : fmt::format("s {} to {}", row.first, row.last));
}

std::string self_check_line(const SelfCheckRow& row) {
  std::string text = fmt::format("check step {}", row.step);
  if (row.grad_norm)
    text += fmt::format("  |g| {:.6g}, recomputed {:.6g}", *row.grad_norm, *row.recomputed);
  text += row.ranks > 1 ? fmt::format("  {} hashes equal on {} ranks", row.compared, row.ranks)
                        : std::string("  one rank, no replicas");
  return text + fmt::format("  {:.3f} s", row.seconds);
}

std::string end_line(const EndRow& row) {
  return fmt::format("end   {}  step {}  loss {}  {} tokens  {}", row.reason, row.step,
                     fitted(row.final_loss, 4, 6), grouped(row.total_tokens),
                     clock_text(row.elapsed));
}

Console::Console(const std::filesystem::path& log_file, bool quiet, bool color)
    : log_(log_file), quiet_(quiet), color_(color) {}

void Console::show(const std::string& text, Tone tone) {
  log_.write(text + "\n");
  if (quiet_) return;
  const bool colored = color_ && tone != Tone::kPlain;
  fmt::print(stderr, "{}{}{}\n", colored ? color_of(tone) : "", text, colored ? "\033[0m" : "");
}

}  // namespace ink
