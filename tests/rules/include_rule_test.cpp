// Who may include whom (ARCHITECTURE.md): read from the include lines of every source file.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "tests/rules/tree.h"

namespace ink::rules {
namespace {

// A path belongs to the longest prefix of this table; it may include files under its own prefix and
// under `may`.
struct Rule {
  std::string_view part;
  std::vector<std::string_view> may;
};

const std::vector<Rule>& rules() {
  static const std::vector<std::string_view> engine_ops = {"engine/ops/", "engine/autograd/",
                                                           "engine/tensor/", "engine/core/",
                                                           "engine/kernels/kernel.h"};
  static const std::vector<std::string_view> kernels = {"engine/ops/",
                                                        "engine/autograd/",
                                                        "engine/tensor/",
                                                        "engine/core/",
                                                        "engine/kernels/kernel.h",
                                                        "engine/kernels/library_versions.h",
                                                        "engine/kernels/tuning.h"};
  static const std::vector<Rule> table = {
      {"engine/core/", {}},
      {"engine/tensor/", {"engine/core/"}},
      {"engine/autograd/", {"engine/kernels/kernel.h", "engine/tensor/", "engine/core/"}},
      {"engine/io/", {"engine/tensor/", "engine/core/"}},
      {"engine/quant/", {"engine/tensor/", "engine/core/"}},
      {"engine/kernels/", {"engine/tensor/", "engine/core/"}},
      {"engine/ops/", engine_ops},
      {"engine/nn/",
       {"engine/ops/", "engine/quant/", "engine/autograd/", "engine/tensor/", "engine/core/",
        "engine/kernels/kernel.h"}},
      {"engine/kernels/cpu/", kernels},
      {"engine/kernels/cuda/", kernels},
      {"configs/", {"engine/core/"}},
      {"data/", {"engine/", "configs/"}},
      {"models/", {"engine/", "configs/"}},
      {"parallel/", {"engine/", "configs/"}},
      {"optim/", {"engine/", "configs/", "parallel/"}},
      {"launch/", {"engine/", "configs/", "data/", "models/", "parallel/", "optim/"}},
      {"bench/", {"engine/", "configs/", "data/", "models/", "parallel/", "optim/", "launch/"}},
      {"tests/",
       {"engine/", "configs/", "data/", "models/", "parallel/", "optim/", "launch/", "bench/"}},
  };
  return table;
}

const Rule* rule_of(const std::string& path) {
  const Rule* best = nullptr;
  for (const Rule& rule : rules()) {
    if (path.starts_with(rule.part) && (!best || rule.part.size() > best->part.size()))
      best = &rule;
  }
  return best;
}

bool is_ours(const std::string& include) {
  return std::any_of(code_folders().begin(), code_folders().end(),
                     [&](const std::string& folder) { return include.starts_with(folder + "/"); });
}

// Empty when `file` may include `include`; `optim/checkpoint` is handed the Hugging Face writer by
// launch.
bool may_include(const std::string& file, const std::string& include) {
  const Rule* rule = rule_of(file);
  if (!rule) return false;
  if (rule_of(include) == rule) return true;
  return std::any_of(rule->may.begin(), rule->may.end(),
                     [&](std::string_view prefix) { return include.starts_with(prefix); });
}

TEST(IncludeRule, EveryFolderIncludesOnlyWhatIsBelowIt) {
  for (const std::string& file : code_files()) {
    ASSERT_NE(rule_of(file), nullptr) << file << " lies in a folder that has no include rule";
    for (const Include& include : includes_of(file)) {
      if (!include.quoted) continue;
      EXPECT_TRUE(may_include(file, include.path))
          << file << ':' << include.line << ": " << rule_of(file)->part << " may not include "
          << include.path;
    }
  }
}

TEST(IncludeRule, OurHeadersAreIncludedByTheirFullPath) {
  for (const std::string& file : code_files()) {
    for (const Include& include : includes_of(file)) {
      if (include.quoted) {
        EXPECT_TRUE(is_ours(include.path) && exists(include.path))
            << file << ':' << include.line << ": \"" << include.path
            << "\" is not a path from the root of the tree";
      } else {
        EXPECT_FALSE(is_ours(include.path))
            << file << ':' << include.line << ": our own <" << include.path << "> wants quotes";
      }
    }
  }
}

// A transport or a device is one class behind an interface: its library's header is seen nowhere
// else.
struct Fenced {
  std::vector<std::string_view> headers;  // prefixes of what stands between < and >
  std::vector<std::string_view> allowed;  // parts of paths that may include them
};

TEST(IncludeRule, TransportAndDeviceHeadersStayInTheirFiles) {
  const std::vector<Fenced> fences = {
      {{"mpi.h"}, {"parallel/comm/mpi_group.", "launch/rendezvous/"}},
      {{"nccl.h"}, {"parallel/comm/nccl_group.", "launch/rendezvous/"}},
      {{"cuda", "cublas", "cudnn", "cooperative_groups", "cub/", "nvtx3/", "mma.h"},
       {"engine/kernels/cuda/", "engine/tensor/cuda", "parallel/comm/nccl_group.",
        "tests/support/cuda_on_cpu", "tests/cuda/", "bench/gpu/"}},
      {{"oneapi/dnnl/"}, {"engine/kernels/cpu/", "bench/"}},
      {{"yaml-cpp/"}, {"configs/schema/"}},
      {{"hdf5.h"}, {"engine/io/", "data/store/", "tests/"}},
      {{"CLI/"}, {"launch/"}},
  };
  for (const std::string& file : code_files()) {
    for (const Include& include : includes_of(file)) {
      if (include.quoted) continue;
      for (const Fenced& fence : fences) {
        const auto starts = [](const std::string& text, const auto& prefixes) {
          return std::any_of(prefixes.begin(), prefixes.end(),
                             [&](std::string_view prefix) { return text.starts_with(prefix); });
        };
        if (!starts(include.path, fence.headers)) continue;
        EXPECT_TRUE(starts(file, fence.allowed) || file.find("_cuda.") != std::string::npos)
            << file << ':' << include.line << ": <" << include.path << "> belongs to "
            << fence.allowed.front();
      }
    }
  }
}

TEST(IncludeRule, TheRuleItselfRefuses) {
  EXPECT_FALSE(may_include("models/internlm2.cpp", "parallel/comm/process_group.h"));
  EXPECT_FALSE(may_include("engine/tensor/tensor.cpp", "engine/ops/linear.h"));
  EXPECT_FALSE(may_include("engine/ops/linear.cpp", "engine/kernels/cpu/gemm.h"));
  EXPECT_FALSE(may_include("configs/schema/reader.cpp", "engine/tensor/tensor.h"));
  EXPECT_FALSE(may_include("optim/checkpoint/save.cpp", "models/hub/export.h"));
  EXPECT_FALSE(may_include("data/loader/loader.cpp", "launch/trainer/trainer.h"));
  EXPECT_TRUE(may_include("optim/checkpoint/save.cpp", "parallel/comm/process_group.h"));
  EXPECT_FALSE(may_include("engine/kernels/kernel.cpp", "engine/kernels/cpu/gemm.h"));
  EXPECT_TRUE(may_include("engine/nn/linear.cpp", "engine/ops/linear.h"));
}

}  // namespace
}  // namespace ink::rules
