// Central differences of a scalar function in f64 against a claimed gradient.
//
// Checks the derivative along one random direction that touches every element, and single entries
// (the first, the last and others), to a relative tolerance (spec: 1e-5).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/values.h"

namespace ink {

struct GradcheckOptions {
  double step = 1e-5;
  double tolerance = 1e-5;  // relative to the entry or to the gradient's root mean square
  int entries = 5;          // single entries to check
};

using ScalarFunction = std::function<double(const std::vector<Values>& inputs)>;

// Empty when the gradient of input number `which` is right; else what differs.
[[nodiscard]] std::string check_gradient(const ScalarFunction& f, std::vector<Values> inputs,
                                         size_t which, const Values& gradient,
                                         std::string_view label,
                                         const GradcheckOptions& options = {});

}  // namespace ink
