// Half-widths of model.init: uniform, our own and with train.compat.init.
#include "models/common/uniform_init.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/nn/builder.h"

namespace ink {
namespace {

float half_width(UniformWidth width) {
  ParameterTable table;
  SerialBuilder builder(table);
  const auto linear = builder.linear("w", 4, 3, {.bias = true, .init_std = 0.02F});
  const auto norm = builder.norm("norm", 3, 1e-5F);
  draw_uniformly(table, width);
  EXPECT_EQ(table.find("w.bias")->init.kind, InitRule::Kind::kConstant);
  EXPECT_EQ(table.find("norm.weight")->init.value, 1.0F);
  const InitRule rule = table.find("w.weight")->init;
  EXPECT_EQ(rule.kind, InitRule::Kind::kUniform);
  return rule.value;
}

TEST(UniformInit, OurWidthHasTheStandardDeviationAndInternEvosItsRoot) {
  EXPECT_FLOAT_EQ(half_width(UniformWidth::kExact), std::sqrt(3.0F) * 0.02F);
  EXPECT_FLOAT_EQ(half_width(UniformWidth::kInternEvo), std::sqrt(3.0F * 0.02F));
}

}  // namespace
}  // namespace ink
