// Parameter groups whose gradients have a norm and a clip factor of their own
// (train.compat.clip_per_group; InternEvo, solver/optimizer/hybrid_zero_optim.py).
//
// Groups are the sets of parameters that share decay and storage: `decay` and `no_decay`, or with
// compat.decay_all the one group `default`; `fp32`, what a model of 16 bits keeps in f32; and one
// for every entry of optim.groups, named by its pattern. One that nothing falls into has norm 0.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "configs/schema/compat_options.h"
#include "configs/schema/optim_options.h"
#include "engine/nn/parameter.h"

namespace ink {

struct NormGroup {
  std::string name;  // `0_default`: with its number, as the log shows it
  std::vector<size_t> members;
};

// members: indices into `parameters`, which are materialized.
[[nodiscard]] std::vector<NormGroup> norm_groups(const OptimSection& optim, const Compat& compat,
                                                 std::span<const Parameter* const> parameters);

struct GroupNorm {
  std::string name;
  double norm = 0;
};
// squares: of the gradients, one per parameter, at any scale; all: the norm over all of them, at
// the scale that is wanted. A group whose norm is infinite has -1 and one that is not a number -2,
// as InternEvo logs them.
[[nodiscard]] std::vector<GroupNorm> group_norms(std::span<const NormGroup> groups,
                                                 std::span<const double> squares, double all);

}  // namespace ink
