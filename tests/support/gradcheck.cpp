#include "tests/support/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/core/philox.h"

namespace ink {
namespace {

double slope(const ScalarFunction& f, std::vector<Values>& inputs, size_t which,
             const Values& direction, double step) {
  const Values start = inputs[which];
  const auto move = [&](double distance) {
    for (size_t i = 0; i < start.size(); ++i) inputs[which][i] = start[i] + distance * direction[i];
    return f(inputs);
  };
  const double up = move(step), down = move(-step);
  inputs[which] = start;
  return (up - down) / (2 * step);
}

}  // namespace

std::string check_gradient(const ScalarFunction& f, std::vector<Values> inputs, size_t which,
                           const Values& gradient, std::string_view label,
                           const GradcheckOptions& options) {
  const size_t count = inputs[which].size();
  if (gradient.size() != count)
    return fmt::format("{}: gradient has {} elements, input has {}", label, gradient.size(), count);
  if (count == 0) return {};
  double squares = 0;
  for (const double g : gradient) squares += g * g;
  const double rms = std::sqrt(squares / static_cast<double>(count));

  const Values direction = normal_values(label, static_cast<int64_t>(count));
  double claimed = 0;
  for (size_t i = 0; i < count; ++i) claimed += direction[i] * gradient[i];
  const double measured = slope(f, inputs, which, direction, options.step);
  // A random direction's slope has the size of the gradient's norm, however small it came out.
  if (!(std::abs(measured - claimed) <= options.tolerance * std::sqrt(squares) + 1e-9))
    return fmt::format("{}: slope along a random direction is {:.9g}, gradient says {:.9g}", label,
                       measured, claimed);

  std::set<size_t> entries{0, count - 1};
  for (uint64_t i = 0;
       entries.size() < std::min<size_t>(count, static_cast<size_t>(options.entries)); ++i)
    entries.insert(philox(philox_key(3, label), i, 0).v[0] % count);
  for (const size_t entry : entries) {
    Values unit(count, 0.0);
    unit[entry] = 1.0;
    const double got = slope(f, inputs, which, unit, options.step);
    const double scale = std::max(std::abs(gradient[entry]), rms);
    if (!(std::abs(got - gradient[entry]) <= options.tolerance * scale + 1e-9))
      return fmt::format("{}[{}]: difference quotient {:.9g}, gradient {:.9g}", label, entry, got,
                         gradient[entry]);
  }
  return {};
}

}  // namespace ink
