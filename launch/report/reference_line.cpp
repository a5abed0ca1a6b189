#include "launch/report/reference_line.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace ink {
namespace {

double rounded(double value, int digits) {
  const double unit = std::pow(10.0, digits);
  return std::round(value * unit) / unit;
}

class LineWriter {
 public:
  void text(const std::string& key, const std::string& value) {
    line_ += fmt::format("{}={} ", key, value);
  }
  void integer(const std::string& key, int64_t value) { text(key, std::to_string(value)); }
  void number(const std::string& key, double value) { text(key, python_number(value)); }
  void number(const std::string& key, double value, int digits) {
    number(key, rounded(value, digits));
  }
  // A rate that is not there yet is the integer 0.
  void rate(const std::string& key, double value) {
    text(key, value == 0 ? "0" : python_number(rounded(value, 2)));
  }
  [[nodiscard]] std::string line() && { return std::move(line_); }

 private:
  std::string line_;
};

std::string dictionary(const std::vector<std::pair<std::string, double>>& entries) {
  std::string text;
  for (const auto& [name, value] : entries)
    text += fmt::format("{}'{}': {}", text.empty() ? "" : ", ", name, python_number(value));
  return "{" + text + "}";
}

void write_speed(LineWriter& out, const ReferenceRow& row) {
  out.number("real_tgs", row.real_tgs, 2);
  out.number("tgs (tokens/gpu/second)", row.speed.last, 2);
  out.number("tgs/last_tgs_1", row.speed.last, 2);
  out.number("tgs/tgs_all", row.speed.all, 2);
  out.number("tgs/tgs_avg", row.speed.average, 2);
  out.number("tgs/tgs_SMA", row.speed.sma, 2);
  out.rate("tgs/last_tgs_10", row.speed.last_10);
  out.rate("tgs/last_tgs_50", row.speed.last_50);
}

void write_metrics(LineWriter& out, const ReferenceRow& row) {
  out.number("acc", row.accuracy, 4);
  out.number("perplexity", std::exp(row.loss_from_metric), 4);
  for (const TypeRow& type : row.types) out.number("acc/" + type.name, type.accuracy, 4);
  for (const TypeRow& type : row.types) out.integer("tokens/" + type.name, type.tokens);
  out.number("loss_from_metric", row.loss_from_metric, 4);
  for (const TypeRow& type : row.types) out.number("loss/" + type.name, type.loss, 4);
}

}  // namespace

std::string python_number(double value) {
  if (std::isnan(value)) return "nan";
  const std::string text = fmt::format("{}", value);
  return text.find_first_of(".einf") == std::string::npos ? text + ".0" : text;
}

std::string reference_line(const ReferenceRow& row) {
  LineWriter out;
  out.number("tflops", row.tflops);
  out.integer("step", row.step);
  out.number("loss", row.loss);
  write_speed(out, row);
  out.number("lr", row.lr);
  out.number("loss_scale", row.loss_scale);
  out.text("grad_norm", dictionary(row.grad_norm));
  out.integer("micro_num", row.micro_num);
  out.integer("num_consumed_tokens", row.consumed_tokens);
  out.integer("inf_nan_skip_batches", row.skipped);
  out.integer("num_samples_in_batch", row.samples);
  out.integer("largest_length", row.largest_length);
  out.integer("largest_batch", row.largest_batch);
  out.integer("smallest_batch", row.smallest_batch);
  out.number("adam_beta2", row.beta2);
  out.number("fwd_bwd_time", row.forward_backward_time, 2);
  out.number("bwd_time", row.backward_time, 2);
  write_metrics(out, row);
  if (!row.skip_reason.empty()) out.text("no_update", row.skip_reason);
  return std::move(out).line();
}

void SpeedHistory::Sum::add(double more_tokens, double more_seconds) {
  tokens += more_tokens;
  seconds += more_seconds;
}

double SpeedHistory::Sum::rate() const { return seconds > 0 ? tokens / seconds : 0; }

SpeedRow SpeedHistory::add(double tokens, double seconds) {
  const Sum step{tokens, seconds};
  window_.push_back(step);
  if (window_.size() > kWindow) window_.pop_front();
  for (Sum* sum : {&all_, &last_10_, &last_50_}) sum->add(tokens, seconds);
  ++steps_;
  sum_of_rates_ += step.rate();
  Sum recent;
  for (const Sum& each : window_) recent.add(each.tokens, each.seconds);
  row_.last = step.rate();
  row_.all = all_.rate();
  row_.average = sum_of_rates_ / static_cast<double>(steps_);
  row_.sma = recent.rate();
  if (steps_ % 10 == 0) row_.last_10 = std::exchange(last_10_, {}).rate();
  if (steps_ % 50 == 0) row_.last_50 = std::exchange(last_50_, {}).rate();
  return row_;
}

}  // namespace ink
