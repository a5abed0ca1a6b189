#include "optim/policy/norm_group.h"

#include <algorithm>
#include <cmath>

#include "optim/policy/step_options.h"

namespace ink {
namespace {

bool is_narrow(const Parameter* parameter) { return size_of(parameter->value().dtype()) == 2; }

double sum_over(const NormGroup& group, std::span<const double> squares) {
  double sum = 0;
  for (const size_t member : group.members) sum += squares[member];
  return sum;
}

}  // namespace

std::vector<NormGroup> norm_groups(const OptimSection& optim, const Compat& compat,
                                   std::span<const Parameter* const> parameters) {
  std::vector<std::string> names = compat.decay_all ? std::vector<std::string>{"default"}
                                                    : std::vector<std::string>{"decay", "no_decay"};
  const size_t fp32 = names.size();
  names.emplace_back("fp32");
  for (const OptimGroup& group : optim.groups) names.push_back(group.match);

  std::vector<NormGroup> groups;
  for (size_t i = 0; i < names.size(); ++i)
    groups.push_back({.name = fmt::format("{}_{}", i, names[i]), .members = {}});
  const bool narrow = std::ranges::any_of(parameters, is_narrow);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& parameter = *parameters[i];
    size_t group = compat.decay_all || parameter.decay ? 0 : 1;
    if (narrow && !is_narrow(&parameter)) group = fp32;
    if (const auto own = group_index(optim, parameter)) group = fp32 + 1 + *own;
    groups[group].members.push_back(i);
  }
  return groups;
}

std::vector<GroupNorm> group_norms(std::span<const NormGroup> groups,
                                   std::span<const double> squares, double all) {
  double total = 0;
  for (const NormGroup& group : groups) total += sum_over(group, squares);
  std::vector<GroupNorm> norms;
  for (const NormGroup& group : groups) {
    const double sum = sum_over(group, squares);
    double norm = std::isnan(sum) ? -2 : std::isinf(sum) ? -1 : 0;
    if (norm == 0 && sum > 0 && std::isfinite(total)) norm = all * std::sqrt(sum / total);
    norms.push_back({.name = group.name, .norm = norm});
  }
  return norms;
}

}  // namespace ink
