// Distances between a result and its reference, both as f64.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace ink {

// ||got - want|| / ||want||, Frobenius; the plain norm of the difference where want is zero.
// Infinity when the sizes differ or anything is NaN, so that no tolerance lets it pass.
[[nodiscard]] inline double rel_frobenius(std::span<const double> got,
                                          std::span<const double> want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  const double distance = std::sqrt(norm > 0 ? difference / norm : difference);
  return std::isnan(distance) ? std::numeric_limits<double>::infinity() : distance;
}

// Largest |got - want|, with the same rule for sizes and NaN.
[[nodiscard]] inline double max_abs(std::span<const double> got, std::span<const double> want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double distance = std::abs(got[i] - want[i]);
    if (std::isnan(distance)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, distance);
  }
  return largest;
}

}  // namespace ink
