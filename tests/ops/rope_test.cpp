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

// y[a] = x[a] cos - x[b] sin, y[b] = x[b] cos + x[a] sin with b = a + D/2, for every head of rows
// of `columns` elements; position of row t is `positions[t]`.
Values rotated(const Values& x, const Values& positions, int64_t columns, int64_t dim) {
  const int64_t half = dim / 2;
  Values y = x;
  for (size_t t = 0; t < positions.size(); ++t) {
    for (int64_t column = 0; column < columns; column += dim) {
      const auto at = t * static_cast<size_t>(columns) + static_cast<size_t>(column);
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

struct FusedShape {
  int64_t kv_heads = 0, ratio = 0, dim = 0;
  [[nodiscard]] int64_t width() const { return kv_heads * (ratio + 2) * dim; }
};

// The rows of a fused wqkv as {q, k, v}.
std::vector<Values> parts_of(const Values& x, const FusedShape& s) {
  std::vector<Values> parts(3);
  for (size_t head = 0; head * static_cast<size_t>(s.dim) < x.size(); ++head) {
    const auto place = static_cast<int64_t>(head) % (s.ratio + 2);
    Values& part = parts[place < s.ratio ? 0 : place == s.ratio ? 1 : 2];
    const auto from = x.begin() + static_cast<int64_t>(head) * s.dim;
    part.insert(part.end(), from, from + s.dim);
  }
  return parts;
}

Values restarting_positions(const Shape& shape) {
  Values positions;
  for (int64_t t = 0; t < shape.numel(); ++t) positions.push_back(static_cast<double>(t % 7) * 31);
  return positions;
}

DType table_dtype(const Tensor& x) { return x.dtype() == DType::kF64 ? DType::kF64 : DType::kF32; }

constexpr int64_t kRows = 11;

std::vector<OpInput> rope_inputs(const std::string& name, int64_t columns) {
  return {{.name = name, .shape = {kRows, columns}},
          {.name = "positions_T",
           .shape = {kRows},
           .role = Role::kConstant,
           .values = restarting_positions,
           .dtype = DType::kI32}};
}

OpCase rope_case(const std::string& name, int64_t heads, int64_t dim) {
  return {.name = name,
          .inputs = rope_inputs("x_TC", heads * dim),
          .run = [dim](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            return {rope(in[0], rope_table(in[1], dim, {.theta = kTheta}, table_dtype(in[0])))};
          },
          .composed = [heads, dim](const std::vector<Values>& in) -> std::vector<Values> {
            return {rotated(in[0], in[1], heads * dim, dim)};
          },
          .slots = {&rope_angles, &rope_rotate},
          .in_place = true};
}

OpCase rope_qkv_case(const std::string& name, const FusedShape& s) {
  return {.name = name,
          .inputs = rope_inputs("qkv_TC", s.width()),
          .run = [s](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            const Tensor table = rope_table(in[1], s.dim, {.theta = kTheta}, table_dtype(in[0]));
            const Qkv parts = rope_qkv(in[0], table, s.kv_heads);
            return {parts.q_TC, parts.k_TC, parts.v_TC};
          },
          .composed = [s](const std::vector<Values>& in) -> std::vector<Values> {
            std::vector<Values> parts = parts_of(in[0], s);
            const int64_t kv_width = s.kv_heads * s.dim;
            parts[0] = rotated(parts[0], in[1], s.ratio * kv_width, s.dim);
            parts[1] = rotated(parts[1], in[1], kv_width, s.dim);
            return parts;
          },
          .slots = {&rope_angles, &rope_split, &rope_join}};
}

REGISTER_OP_CASE(rope_case("rope_dim128", 3, 128));
REGISTER_OP_CASE(rope_case("rope_dim10", 6, 10));
REGISTER_OP_CASE(rope_qkv_case("rope_qkv_gqa3_dim8", {2, 3, 8}));
REGISTER_OP_CASE(rope_qkv_case("rope_qkv_gqa1_dim64", {3, 1, 64}));
REGISTER_OP_CASE(rope_qkv_case("rope_qkv_gqa4_dim10", {1, 4, 10}));

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
  const Values x = normal_values("rope", 5 * 512);
  Runtime runtime;
  const Tensor table =
      rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{0, 1, 100, 4095, 32767}), 64, {});
  for (const std::string_view label : rope_rotate.labels(Device::kCpu)) {
    rope_rotate.choose(Device::kCpu, label);
    Tensor y = from_values(runtime, x, {5, 512}, DType::kF32);
    rope_rotate(Device::kCpu, table, Rotation::kForward, y);
    EXPECT_GT(rel_frobenius(to_values(y), rounded(x, DType::kF32)), 0.1);
    rope_rotate(Device::kCpu, table, Rotation::kInverse, y);
    EXPECT_LE(rel_frobenius(to_values(y), rounded(x, DType::kF32)), 2e-7) << label;
  }
  rope_rotate.choose(Device::kCpu, {});
}

// Apart and together again, every bit of the values and every key and query to rounding.
TEST(Rope, JoinRestoresWhatSplitMade) {
  const FusedShape s{4, 2, 32};
  const Values x = rounded(normal_values("rope", 5 * s.width()), DType::kF32);
  Runtime runtime;
  const Tensor table =
      rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{0, 1, 100, 4095, 32767}), 32, {});
  const Tensor qkv = from_values(runtime, x, {5, s.width()}, DType::kF32);
  const Qkv parts = rope_qkv(qkv, table, s.kv_heads);
  EXPECT_EQ(to_values(qkv), x) << "split writes over what it reads";
  Tensor back = empty_like(qkv);
  rope_join(Device::kCpu, table, parts, back);
  const std::vector<Values> want = parts_of(x, s), got = parts_of(to_values(back), s);
  EXPECT_EQ(got[2], want[2]);
  EXPECT_LE(rel_frobenius(got[0], want[0]), 2e-7);
  EXPECT_LE(rel_frobenius(got[1], want[1]), 2e-7);
}

// What nobody used has a gradient of zero.
TEST(Rope, AnUnusedPartHasNoGradient) {
  const FusedShape s{2, 2, 8};
  Runtime runtime;
  const Tensor table =
      rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{3, 5}), s.dim, {});
  const Tensor qkv = make_leaf(
      from_values(runtime, normal_values("rope", 2 * s.width()), {2, s.width()}, DType::kF32));
  const Qkv parts = rope_qkv(qkv, table, s.kv_heads);
  backward({parts.v_TC}, {from_values(runtime, Values(32, 1.0), parts.v_TC.shape(), DType::kF32)});
  const std::vector<Values> grads = parts_of(to_values(leaf_of(qkv)->grad), s);
  EXPECT_EQ(grads[0], Values(64, 0.0));
  EXPECT_EQ(grads[1], Values(32, 0.0));
  EXPECT_EQ(grads[2], Values(32, 1.0));
}

TEST(Rope, WritesOverItsInput) {
  Runtime runtime;
  const Tensor x = from_values(runtime, normal_values("rope", 3 * 16), {3, 16}, DType::kF32);
  const Tensor table =
      rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{1, 2, 3}), 8, {});
  const Tensor y = rope(x, table);
  EXPECT_EQ(y.raw(), x.raw());
}

// The incoming gradient is somebody else's too: it must keep its values.
TEST(Rope, BackwardLeavesASharedGradientAlone) {
  Runtime runtime;
  const Tensor x =
      make_leaf(from_values(runtime, normal_values("rope", 3 * 16), {3, 16}, DType::kF32));
  const Tensor table =
      rope_table(to_tensor<int32_t>(runtime, std::vector<int32_t>{1, 2, 3}), 8, {});
  const Tensor y = rope(x, table);
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
  EXPECT_THROW((void)rope(x, rope_table(positions, 6, {})), InternalError);
  EXPECT_THROW((void)rope(x, rope_table(positions, 8, {}, DType::kF64)), InternalError);
  EXPECT_THROW((void)rope_qkv(x, table, 1), InternalError);
  EXPECT_THROW((void)rope_qkv(zeros(runtime, {3, 32}, DType::kF32), table, 3), InternalError);
  EXPECT_NO_THROW((void)rope_qkv(zeros(runtime, {3, 32}, DType::kF32), table, 1));
  EXPECT_THROW((void)rope_table(positions, 7, {}), InternalError);
}

}  // namespace
}  // namespace ink
