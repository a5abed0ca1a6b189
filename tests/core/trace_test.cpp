#include "engine/core/trace.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/autograd/backward.h"

namespace ink {
namespace {

std::vector<std::string>& heard() {
  static std::vector<std::string> all;
  return all;
}

constexpr TraceListener kListener{.begin = [](const char* name) { heard().emplace_back(name); },
                                  .end = [] { heard().emplace_back("end"); }};

TEST(Trace, KernelCallsAreRangesForWhoeverListens) {
  Runtime runtime;
  Tensor x(runtime, {3}, DType::kF32);
  fill(Device::kCpu, 1.0, x);
  EXPECT_TRUE(heard().empty());
  listen_to_traces(&kListener);
  {
    const TraceRange outer("forward");
    fill(Device::kCpu, 2.0, x);
  }
  listen_to_traces(nullptr);
  fill(Device::kCpu, 3.0, x);
  EXPECT_EQ(heard(), (std::vector<std::string>{"forward", "fill", "end", "end"}));
}

}  // namespace
}  // namespace ink
