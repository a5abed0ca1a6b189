#include "engine/ops/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/autograd/backward.h"
#include "tests/support/compare.h"
#include "tests/support/op_case.h"

namespace ink {
namespace {

constexpr double kTheta = 10000.0;

double angle_of(int64_t position, int64_t i, int64_t dim, double theta) {
  return static_cast<double>(position) *
         std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
}

// y[a] = x[a] cos - x[b] sin, y[b] = x[b] cos + x[a] sin with b = a + D/2; position of row t is
// `positions[t]`.
Values rotated(const Values& x, const Values& positions, const RopeHeads& heads) {
  const int64_t dim = heads.head_dim, half = dim / 2;
  const int64_t columns = heads.groups * heads.group_heads * dim;
  Values y = x;
  for (size_t t = 0; t < positions.size(); ++t) {
    for (int64_t head = 0; head < heads.groups * heads.group_heads; ++head) {
      if (head % heads.group_heads >= heads.rotated) continue;
      const auto at = static_cast<size_t>(static_cast<int64_t>(t) * columns + head * dim);
      for (int64_t i = 0; i < half; ++i) {
        const double angle = angle_of(static_cast<int64_t>(positions[t]), i, dim, kTheta);
        const size_t a = at + static_cast<size_t>(i), b = a + static_cast<size_t>(half);
        y[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
        y[b] = x[b] * std::cos(angle) + x[a] * std::sin(angle);
      }
    }
  }
  return y;
}

Values restarting_positions(const Shape& shape) {
  Values positions;
  for (int64_t t = 0; t < shape.numel(); ++t) positions.push_back(static_cast<double>(t % 7) * 31);
  return positions;
}

DType table_dtype(const Tensor& x) { return x.dtype() == DType::kF64 ? DType::kF64 : DType::kF32; }

OpCase rope_case(const std::string& name, const RopeHeads& heads) {
  const int64_t columns = heads.groups * heads.group_heads * heads.head_dim;
  return {.name = name,
          .inputs = {{.name = "x_TC", .shape = {11, columns}},
                     {.name = "positions_T",
                      .shape = {11},
                      .role = Role::kConstant,
                      .values = restarting_positions,
                      .dtype = DType::kI32}},
          .run = [heads](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            const Tensor table =
                rope_table(in[1], heads.head_dim, {.theta = kTheta}, table_dtype(in[0]));
            return {rope(in[0], table, heads)};
          },
          .composed = [heads](const std::vector<Values>& in) -> std::vector<Values> {
            return {rotated(in[0], in[1], heads)};
          },
          .slots = {&rope_angles, &rope_rotate},
          .in_place = true};
}

// Fused wqkv rows: the value head of each group stays as it is.
REGISTER_OP_CASE(rope_case("rope_fused",
                           {.groups = 2, .group_heads = 5, .rotated = 4, .head_dim = 8}));
REGISTER_OP_CASE(rope_case("rope_dim128", {.groups = 3, .head_dim = 128}));
REGISTER_OP_CASE(rope_case("rope_dim10",
                           {.groups = 2, .group_heads = 3, .rotated = 2, .head_dim = 10}));

TEST(Rope, AnglesAtLargePositions) {
  const std::vector<int32_t> positions = {4094, 4095, 32766, 32767, 131070, 131071};
  for (const double theta : {1e4, 1e6, 5e7}) {
    Runtime runtime;
    const Tensor table = rope_table(to_tensor(runtime, positions), 128, {.theta = theta});
    const float* row = table.data<float>();
    for (size_t t = 0; t < positions.size(); ++t, row += 128) {
      for (int64_t i = 0; i < 64; ++i) {
        const double angle = angle_of(positions[t], i, 128, theta);
        EXPECT_NEAR(row[i], std::cos(angle), 1e-7);  // half a unit of f32 plus f64's own error
        EXPECT_NEAR(row[64 + i], std::sin(angle), 1e-7);
      }
      if (t % 2 == 1) {
        EXPECT_GT(std::abs(row[0] - row[-128]), 1e-3) << "neighbours are equal";
      }
    }
  }
}

TEST(Rope, LinearScalingDividesPositions) {
  Runtime runtime;
  const Tensor table = rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{40}), 8,
                                  {.theta = kTheta, .position_scale = 1.0 / 4}, DType::kF64);
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_NEAR(table.data<double>()[i], std::cos(angle_of(10, i, 8, kTheta)), 1e-14);
}

TEST(Rope, DynamicNtkVectors) {
  EXPECT_NEAR(dynamic_ntk_theta(1e6, 2.0, 65536, 32768, 128), 3052773.67, 5e-3);
  EXPECT_NEAR(dynamic_ntk_theta(5e7, 6.0, 65536, 32768, 128), 360979300.4, 5e-2);
  EXPECT_NEAR(dynamic_ntk_theta(1e4, 1.0, 4096, 2048, 128), 20221.2617, 5e-5);
  EXPECT_EQ(dynamic_ntk_theta(1e6, 2.0, 32768, 32768, 128), 1e6);
}

TEST(Rope, InverseRestores) {
  const RopeHeads heads{.groups = 2, .group_heads = 4, .rotated = 3, .head_dim = 64};
  const Values x = normal_values("rope", 5 * 512);
  Runtime runtime;
  const Tensor table =
      rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{0, 1, 100, 4095, 32767}), 64, {});
  for (const std::string_view label : rope_rotate.labels(Device::kCpu)) {
    rope_rotate.choose(Device::kCpu, label);
    Tensor y = from_values(runtime, x, {5, 512}, DType::kF32);
    rope_rotate(Device::kCpu, table, heads, Rotation::kForward, y);
    EXPECT_GT(rel_frobenius(to_values(y), rounded(x, DType::kF32)), 0.1);
    rope_rotate(Device::kCpu, table, heads, Rotation::kInverse, y);
    EXPECT_LE(rel_frobenius(to_values(y), rounded(x, DType::kF32)), 2e-7) << label;
  }
  rope_rotate.choose(Device::kCpu, {});
}

TEST(Rope, WritesOverItsInput) {
  Runtime runtime;
  const Tensor x = from_values(runtime, normal_values("rope", 3 * 16), {3, 16}, DType::kF32);
  const Tensor table =
      rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{1, 2, 3}), 8, {});
  const Tensor y = rope(x, table, {.groups = 2, .head_dim = 8});
  EXPECT_EQ(y.raw(), x.raw());
}

// The incoming gradient is somebody else's too: it must keep its values.
TEST(Rope, BackwardLeavesASharedGradientAlone) {
  Runtime runtime;
  const Tensor x =
      make_leaf(from_values(runtime, normal_values("rope", 3 * 16), {3, 16}, DType::kF32));
  const Tensor table =
      rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{1, 2, 3}), 8, {});
  const Tensor y = rope(x, table, {.groups = 2, .head_dim = 8});
  const Values seed = rounded(normal_values("seed", 3 * 16), DType::kF32);
  const Tensor dy = from_values(runtime, seed, {3, 16}, DType::kF32);
  backward({y}, {dy});
  EXPECT_EQ(to_values(dy), seed);
  EXPECT_GT(rel_frobenius(to_values(leaf_of(x)->grad), seed), 0.1);
}

TEST(Rope, ArgumentsAreChecked) {
  Runtime runtime;
  const Tensor x = zeros(runtime, {3, 16}, DType::kF32);
  const Tensor positions = to_tensor<int32_t>(runtime, std::vector<int32_t>{1, 2, 3});
  const Tensor table = rope_table(positions, 8, {});
  EXPECT_THROW((void)rope(x, table, {.groups = 3, .head_dim = 8}), InternalError);
  EXPECT_THROW(
      (void)rope(x, rope_table(positions, 8, {}, DType::kF64), {.groups = 2, .head_dim = 8}),
      InternalError);
  EXPECT_THROW((void)rope_table(positions, 7, {}), InternalError);
}

}  // namespace
}  // namespace ink
