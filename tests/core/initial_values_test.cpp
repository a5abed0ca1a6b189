#include <gtest/gtest.h>

#include <cmath>

#include "engine/core/philox.h"
#include "engine/nn/parameter.h"

namespace ink {
namespace {

// Rows of every length and alignment: each element is the normal of its global index.
TEST(InitialValues, AreTheNormalsOfTheGlobalElements) {
  constexpr float kStd = 0.02F;
  for (const int64_t columns : {1, 2, 3, 4, 5, 7, 12}) {
    const Parameter parameter = whole_parameter("w", {6, columns}, {InitRule::Kind::kNormal, kStd});
    const std::vector<float> values = ParameterTable::initial_values(parameter, 11);
    const PhiloxKey key = philox_key(11, "init.w");
    ASSERT_EQ(values.size(), static_cast<size_t>(6 * columns));
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_EQ(values[i], kStd * philox_normal(key, i)) << columns << " columns, element " << i;
  }
}

// A rank that holds a box of the tensor draws the values the whole one has there.
TEST(InitialValues, APieceHoldsItsPartOfTheWhole) {
  const Parameter whole = whole_parameter("w", {8, 10}, {InitRule::Kind::kNormal, 1.0F});
  Parameter part = whole;
  part.local_shape = Shape{4, 5};
  part.pieces = {{{2, 3}, {4, 5}, 0}};
  const std::vector<float> all = ParameterTable::initial_values(whole, 5);
  const std::vector<float> some = ParameterTable::initial_values(part, 5);
  for (size_t row = 0; row < 4; ++row)
    for (size_t col = 0; col < 5; ++col)
      EXPECT_EQ(some[row * 5 + col], all[(row + 2) * 10 + col + 3]);
}

TEST(InitialValues, UniformOnesStayInTheirIntervalAndHaveItsDeviation) {
  constexpr float kHalf = 0.3F;
  Parameter parameter = whole_parameter("w", {64, 129}, {InitRule::Kind::kUniform, kHalf});
  const std::vector<float> values = ParameterTable::initial_values(parameter, 11);
  double squares = 0;
  for (const float value : values) {
    EXPECT_LT(std::abs(value), kHalf);
    squares += double{value} * value;
  }
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(values.size())), kHalf / std::sqrt(3.0),
              0.003);
  Parameter part = parameter;  // and a piece has its part of them
  part.local_shape = Shape{1, 6};
  part.pieces = {{{5, 3}, {1, 6}, 0}};
  const std::vector<float> some = ParameterTable::initial_values(part, 11);
  for (size_t col = 0; col < 6; ++col) EXPECT_EQ(some[col], values[5 * 129 + col + 3]);
}

}  // namespace
}  // namespace ink
