#include "launch/report/loss_plot.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "launch/report/plot_axis.h"

namespace ink {
namespace {

constexpr double kWidth = 900, kHeight = 540, kLeft = 72, kRight = 20;
constexpr double kLossTop = 52, kLossBottom = 380, kRateTop = 416, kRateBottom = 496;
constexpr size_t kColumns = 800;  // points of a drawn line at most; twice that for the raw loss

constexpr const char* kStyle =
    "<style>text{font:12px sans-serif;fill:#444}.title{font-size:15px;fill:#111}"
    ".grid{stroke:#e4e4e4}.axis{stroke:#888}.raw{fill:none;stroke:#9ec3e6;stroke-width:1}"
    ".smooth{fill:none;stroke:#1763a6;stroke-width:2}.eval{fill:#d1541b}"
    ".lr{fill:none;stroke:#4c8b3f;stroke-width:1.5}</style>\n";

struct XY {
  double x, y;
};

// A line; a break where y is not finite, and a dot for a point that stands alone.
std::string polyline(const std::vector<XY>& points, const char* style) {
  std::string out, run;
  size_t length = 0;
  XY last{};
  const auto flush = [&] {
    if (length == 1)
      out += fmt::format("<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2\"/>\n", style,
                         last.x, last.y);
    if (length > 1) out += fmt::format("<polyline class=\"{}\" points=\"{}\"/>\n", style, run);
    run.clear();
    length = 0;
  };
  for (const XY& p : points) {
    if (!std::isfinite(p.y)) {
      flush();
      continue;
    }
    run += fmt::format("{}{:.1f},{:.1f}", length == 0 ? "" : " ", p.x, p.y);
    last = p;
    ++length;
  }
  flush();
  return out;
}

std::string horizontal_grid(const PlotAxis& y, int ticks) {
  std::string out;
  for (const double value : y.ticks(ticks)) {
    const double at = y.pixel(value);
    out += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.4g}</text>\n",
        kLeft, kWidth - kRight, at, at, kLeft - 6, at + 4, value);
  }
  return out;
}

std::string step_axis(const PlotAxis& x) {
  std::string out;
  for (const double value : x.ticks(8, 1)) {
    const double at = x.pixel(value);
    out += fmt::format(
        "<line class=\"grid\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\"/>"
        "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.0f}</text>\n",
        at, at, kLossTop, kRateBottom, at, kRateBottom + 16, value);
  }
  out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>\n",
                     (kLeft + kWidth - kRight) / 2, kHeight - 10);
  return out;
}

std::string frame(double top, double bottom, const char* label) {
  return fmt::format(
      "<rect class=\"axis\" fill=\"none\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>"
      "<text x=\"{}\" y=\"{}\">{}</text>\n",
      kLeft, top, kWidth - kRight - kLeft, bottom - top, 10, top - 8, label);
}

std::string legend() {
  std::string out;
  double x = kWidth - kRight - 360;
  for (const auto& [style, label] : {std::pair{"raw", "loss"}, std::pair{"smooth", "smoothed"},
                                     std::pair{"eval", "evaluation"}, std::pair{"lr", "lr"}}) {
    out += std::string_view(style) == "eval"
               ? fmt::format("<circle class=\"eval\" cx=\"{}\" cy=\"36\" r=\"4\"/>", x + 11)
               : fmt::format("<line class=\"{}\" x1=\"{}\" x2=\"{}\" y1=\"36\" y2=\"36\"/>", style,
                             x, x + 22);
    out += fmt::format("<text x=\"{}\" y=\"40\">{}</text>\n", x + 28, label);
    x += 96;
  }
  return out;
}

}  // namespace

void LossPlot::add_step(int64_t step, double loss, double lr) {
  cut_after(step - 1);
  points_.push_back({step, loss, lr});
}

void LossPlot::add_eval(int64_t step, double loss) {
  while (!evals_.empty() && evals_.back().step >= step) evals_.pop_back();
  evals_.push_back({step, loss});
}

void LossPlot::cut_after(int64_t step) {
  while (!points_.empty() && points_.back().step > step) points_.pop_back();
  while (!evals_.empty() && evals_.back().step > step) evals_.pop_back();
}

std::string LossPlot::curves(const PlotAxis& x, const PlotAxis& loss, const PlotAxis& rate) const {
  // A column of many steps shows its lowest and highest raw loss, so that no spike is lost.
  const size_t stride = (points_.size() + kColumns - 1) / kColumns;
  // Few enough steps in the average that it does not lag behind a falling loss.
  const double decay = 1 - 1 / std::clamp(static_cast<double>(points_.size()) / 100, 3.0, 50.0);
  double sum = 0, weight = 0;
  std::vector<XY> raw, smooth, lr;
  for (size_t begin = 0; begin < points_.size(); begin += stride) {
    const size_t end = std::min(begin + stride, points_.size());
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (size_t i = begin; i < end; ++i) {
      const double value = points_[i].loss;
      if (!std::isfinite(value)) continue;
      low = std::min(low, value), high = std::max(high, value);
      sum = decay * sum + (1 - decay) * value;
      weight = decay * weight + (1 - decay);
    }
    const double at = x.pixel(static_cast<double>(points_[end - 1].step));
    raw.push_back({at, loss.pixel(high)});
    if (high > low) raw.push_back({at, loss.pixel(low)});
    if (weight > 0) smooth.push_back({at, loss.pixel(sum / weight)});
    lr.push_back({at, rate.pixel(points_[end - 1].lr)});
  }
  return polyline(raw, "raw") + polyline(smooth, "smooth") + polyline(lr, "lr");
}

std::string LossPlot::svg(const std::string& title) const {
  PlotAxis x(kLeft, kWidth - kRight), loss(kLossBottom, kLossTop), rate(kRateBottom, kRateTop);
  rate.include(0);
  for (const Point& p : points_) {
    x.include(static_cast<double>(p.step));
    loss.include(p.loss);
    rate.include(p.lr);
  }
  for (const EvalPoint& e : evals_) {
    x.include(static_cast<double>(e.step));
    loss.include(e.loss);
  }
  x.settle();
  loss.settle();
  rate.settle();

  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\">\n{2}<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n"
      "<text class=\"title\" x=\"{3}\" y=\"22\">{4}</text>\n",
      kWidth, kHeight, kStyle, kLeft, escape_markup(title));
  out += step_axis(x) + horizontal_grid(loss, 7) + horizontal_grid(rate, 3);
  out += frame(kLossTop, kLossBottom, "loss") + frame(kRateTop, kRateBottom, "lr") + legend();
  out += curves(x, loss, rate);
  for (const EvalPoint& e : evals_) {
    if (!std::isfinite(e.loss)) continue;
    out += fmt::format(
        "<circle class=\"eval\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"><title>step {}: {:.4f}"
        "</title></circle>\n",
        x.pixel(static_cast<double>(e.step)), loss.pixel(e.loss), e.step, e.loss);
  }
  return out + "</svg>\n";
}

std::string escape_markup(const std::string& text) {
  // dump() replaces invalid UTF-8, parse() brings the characters back.
  const std::string valid = nlohmann::json::parse(
      nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  std::string out;
  for (const char c : valid) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') {
      out += c;
    }
  }
  return out;
}

}  // namespace ink
