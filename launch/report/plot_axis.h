// One axis of a picture: a range of values laid on a range of pixels, with round tick marks.
//
// LossPlot makes three of them. A range without extent is widened, so that every axis can be drawn.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace ink {

class PlotAxis {
 public:
  PlotAxis(double pixel_begin, double pixel_end) : begin_(pixel_begin), end_(pixel_end) {}

  void include(double value) {
    if (!std::isfinite(value)) return;
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  // Called once after the last include().
  void settle() {
    if (low_ > high_) low_ = 0, high_ = 1;
    if (high_ - low_ <= 1e-9 * std::max(std::abs(low_), std::abs(high_))) {
      const double half = high_ == 0 ? 0.5 : std::abs(high_) * 0.05;
      low_ -= half, high_ += half;
    }
  }

  [[nodiscard]] double pixel(double value) const {
    return begin_ + (value - low_) / (high_ - low_) * (end_ - begin_);
  }
  // Multiples of 1, 2 or 5 times a power of ten, at most `count` + 1 of them.
  [[nodiscard]] std::vector<double> ticks(int count, double smallest_step = 0) const {
    const double rough = (high_ - low_) / count;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    double step = 10 * power;
    for (const double factor : {5.0, 2.0, 1.0})
      if (factor * power >= rough) step = factor * power;
    step = std::max(step, smallest_step);
    std::vector<double> values;
    const double first = std::ceil(low_ / step - 1e-9) + 0.0;  // never -0
    for (double k = first; k * step <= high_ + 1e-9 * step; ++k) values.push_back(k * step);
    return values;
  }

 private:
  double begin_, end_;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -low_;
};

}  // namespace ink
