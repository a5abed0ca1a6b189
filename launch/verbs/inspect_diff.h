// What differs between the tensors of two paths: the `--diff` of `inspect`.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace ink {

// {kind: "diff", path, other, equal, common_tensors, equal_tensors, only_in_path: [names],
// only_in_other: [names], different: [{name, dtype, shape, rel_frobenius, max_abs}]}
//
// Either path is a safetensors file, a Hugging Face directory, a step-N or a run directory (its
// newest whole checkpoint). Tensors are matched by name; equal means dtype, shape and every bit.
// rel_frobenius is |other - path| / |path| over all elements, in double (null where |path| is 0);
// both numbers are null where the shapes differ or a dtype has no arithmetic here. dtype and shape
// are lists of two where they differ. At most one tensor of each path is in memory. Error 3 as when
// the path is opened.
[[nodiscard]] nlohmann::ordered_json diff_tensors(const std::filesystem::path& path,
                                                  const std::filesystem::path& other);

}  // namespace ink
