#include "engine/ops/swiglu.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare.h"
#include "tests/support/op_case.h"

namespace ink {
namespace {

double silu(double g) { return g / (1 + std::exp(-g)); }

REGISTER_OP_CASE({.name = "swiglu",
                  .inputs = {{.name = "gate_TF", .shape = {5, 83}, .low = -6, .high = 6},
                             {.name = "up_TF", .shape = {5, 83}, .low = -2, .high = 2}},
                  .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
                    return {swiglu(in[0], in[1])};
                  },
                  .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
                    Values y(in[0].size());
                    for (size_t i = 0; i < y.size(); ++i) y[i] = silu(in[0][i]) * in[1][i];
                    return {y};
                  },
                  .slots = {&swiglu_forward, &swiglu_backward}});

// Every instruction set, over the whole range of the exponential, in absolute and relative terms.
TEST(SwiGlu, HoldsOverTheWholeRangeOfTheGate) {
  for (const std::string_view label : swiglu_forward.labels(Device::kCpu)) {
    swiglu_forward.choose(Device::kCpu, label);
    Runtime runtime;
    Values gates, want;
    for (double g = -120; g <= 120; g += 0.0625) gates.push_back(g);
    for (const double g : gates) want.push_back(silu(g));
    const Shape shape{static_cast<int64_t>(gates.size())};
    const Tensor gate = from_values(runtime, gates, shape, DType::kF32);
    const Tensor up = from_values(runtime, Values(gates.size(), 1.0), shape, DType::kF32);
    const Values got = to_values(swiglu(gate, up));
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_NEAR(got[i], want[i], 4e-7 * std::abs(want[i]) + 1e-35) << label << " at " << gates[i];
    swiglu_forward.choose(Device::kCpu, {});
  }
}

TEST(SwiGlu, NonFiniteGatesStayNonFinite) {
  for (const std::string_view label : swiglu_forward.labels(Device::kCpu)) {
    swiglu_forward.choose(Device::kCpu, label);
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      Runtime runtime;
      const Tensor gate = from_values(runtime, {NAN, INFINITY, 1.0}, {3}, dtype);
      const Tensor up = from_values(runtime, {1.0, 1.0, NAN}, {3}, dtype);
      const Values got = to_values(swiglu(gate, up));
      EXPECT_TRUE(std::isnan(got[0]) && std::isnan(got[2])) << label << " " << name_of(dtype);
      EXPECT_TRUE(std::isinf(got[1])) << label << " " << name_of(dtype);
    }
    swiglu_forward.choose(Device::kCpu, {});
  }
}

// Made again with the gradients, where the operands lay: the bits of forward and of a backward that
// writes elsewhere.
TEST(SwiGlu, BackwardMakesItsResultAgainInPlace) {
  const Shape shape{7, 131};
  for (const std::string_view label : swiglu_backward.labels(Device::kCpu)) {
    swiglu_forward.choose(Device::kCpu, label);
    swiglu_backward.choose(Device::kCpu, label);
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
      Runtime runtime;
      const auto input = [&](const char* name) {
        return from_values(runtime, normal_values(name, shape.numel()), shape, dtype);
      };
      Tensor gate = input("gate"), up = input("up"), dy = input("dy"), none;
      Tensor y = empty_like(gate), dgate = empty_like(gate), dup = empty_like(gate);
      swiglu_forward(Device::kCpu, gate, up, y);
      swiglu_backward(Device::kCpu, dy, gate, up, dgate, dup, none);
      swiglu_backward(Device::kCpu, dy, gate, up, gate, up, dy);
      EXPECT_EQ(to_values(dy), to_values(y)) << label << " " << name_of(dtype);
      EXPECT_EQ(to_values(gate), to_values(dgate)) << label << " " << name_of(dtype);
      EXPECT_EQ(to_values(up), to_values(dup)) << label << " " << name_of(dtype);
    }
    swiglu_forward.choose(Device::kCpu, {});
    swiglu_backward.choose(Device::kCpu, {});
  }
}

}  // namespace
}  // namespace ink
