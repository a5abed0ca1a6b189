#include "engine/ops/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/autograd/backward.h"
#include "tests/support/op_case.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

using Inputs = std::vector<Tensor>;
using Vectors = std::vector<Values>;

Values plus(const Values& a, const Values& b) {
  Values y(a.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = a[i] + b[i];
  return y;
}

REGISTER_OP_CASE({.name = "add",
                  .inputs = {{.name = "a", .shape = {6, 45}}, {.name = "b", .shape = {6, 45}}},
                  .run = [](const Inputs& in) -> Inputs { return {add(in[0], in[1])}; },
                  .composed = [](const Vectors& in) -> Vectors { return {plus(in[0], in[1])}; },
                  .slots = {&add_forward}});
// The same tensor twice: its two gradients are added.
REGISTER_OP_CASE({.name = "add_to_itself",
                  .inputs = {{.name = "a", .shape = {6, 45}}},
                  .run = [](const Inputs& in) -> Inputs {
                    const Tensor twice = add(in[0], in[0]);
                    return {add(twice, twice)};
                  },
                  .composed = [](const Vectors& in) -> Vectors {
                    const Values twice = plus(in[0], in[0]);
                    return {plus(twice, twice)};
                  },
                  .slots = {&accumulate}});
// f32 into the row's type.
REGISTER_OP_CASE({.name = "accumulate_f32",
                  .inputs = {{.name = "from", .shape = {6, 45}, .dtype = DType::kF32},
                             {.name = "into", .shape = {6, 45}}},
                  .run = [](const Inputs& in) -> Inputs {
                    Tensor into = empty_like(in[1]);
                    cast(into.device(), in[1], into);
                    accumulate(into.device(), in[0], into);
                    return {into};
                  },
                  .composed = [](const Vectors& in) -> Vectors { return {plus(in[0], in[1])}; },
                  .slots = {&accumulate},
                  .differentiable = 0});
REGISTER_OP_CASE({.name = "sum",
                  .inputs = {{.name = "x", .shape = {9, 37}, .low = 0.5, .high = 1.5}},
                  .run = [](const Inputs& in) -> Inputs { return {sum(in[0])}; },
                  .composed = [](const Vectors& in) -> Vectors {
                    return {{std::accumulate(in[0].begin(), in[0].end(), 0.0)}};
                  },
                  .slots = {&sum_forward, &broadcast_scalar}});
REGISTER_OP_CASE({.name = "fill",
                  .inputs = {{.name = "like", .shape = {3, 21}}},
                  .run = [](const Inputs& in) -> Inputs {
                    Tensor y = empty_like(in[0]);
                    fill(y.device(), 1.5, y);
                    return {y};
                  },
                  .composed = [](const Vectors& in) -> Vectors {
                    return {Values(in[0].size(), 1.5)};
                  },
                  .slots = {&fill},
                  .differentiable = 0});

OpCase to_dtype_row(DType to) {
  return {.name = fmt::format("to_{}", name_of(to)),
          .inputs = {{.name = "x", .shape = {5, 67}}},
          .run = [to](const Inputs& in) -> Inputs { return {to_dtype(in[0], to)}; },
          .composed = [to](const Vectors& in) -> Vectors { return {rounded(in[0], to)}; },
          .slots = {&cast},
          .differentiable = 0};
}
REGISTER_OP_CASE(to_dtype_row(DType::kF64));
REGISTER_OP_CASE(to_dtype_row(DType::kF32));
REGISTER_OP_CASE(to_dtype_row(DType::kBF16));
REGISTER_OP_CASE(to_dtype_row(DType::kF16));
// There and back again, in a wider type: the gradient is that of the identity.
REGISTER_OP_CASE({.name = "to_dtype_round_trip",
                  .inputs = {{.name = "x", .shape = {5, 67}}},
                  .run = [](const Inputs& in) -> Inputs {
                    return {to_dtype(to_dtype(in[0], DType::kF64), in[0].dtype())};
                  },
                  .composed = [](const Vectors& in) -> Vectors { return {in[0]}; },
                  .slots = {&cast}});

TEST(Accumulate, RoundsTheF32SumOnceOnEveryInstructionSet) {
  Runtime runtime;
  const int64_t n = 3001;
  const Values from = rounded(normal_values("from", n), DType::kF32);
  for (const DType to : {DType::kBF16, DType::kF16}) {
    const Values start = rounded(normal_values("into", n), to);
    Values want = start;
    for (size_t i = 0; i < want.size(); ++i)
      want[i] = double{static_cast<float>(want[i]) + static_cast<float>(from[i])};
    for (const std::string_view label : accumulate.labels(Device::kCpu)) {
      accumulate.choose(Device::kCpu, label);
      Tensor into = from_values(runtime, start, {n}, to);
      accumulate(Device::kCpu, from_values(runtime, from, {n}, DType::kF32), into);
      EXPECT_EQ(to_values(into), rounded(want, to)) << label << " to " << name_of(to);
      accumulate.choose(Device::kCpu, {});
    }
  }
}

TEST(Cast, KeepsNanAndInfinityOnEveryInstructionSet) {
  for (const std::string_view label : cast.labels(Device::kCpu)) {
    cast.choose(Device::kCpu, label);
    for (const DType to : {DType::kF32, DType::kBF16, DType::kF16}) {
      Runtime runtime;
      // The float NaN of the smallest payload is what a careless rounding carries to infinity.
      const float thin = std::bit_cast<float>(0x7f800001u);
      Tensor from(runtime, {40}, DType::kF32);
      for (int i = 0; i < 40; ++i)
        from.data<float>()[i] = i % 4 == 0   ? thin
                                : i % 4 == 1 ? -INFINITY
                                : i % 4 == 2 ? std::bit_cast<float>(0x7fffffffu)
                                             : 1.0f;
      const Values got = to_values(to_dtype(from, to));
      for (size_t i = 0; i < 40; ++i) {
        const bool right = i % 4 == 1   ? std::isinf(got[i]) && got[i] < 0
                           : i % 4 == 3 ? got[i] == 1.0
                                        : std::isnan(got[i]);
        EXPECT_TRUE(right) << label << " to " << name_of(to) << " element " << i << ": " << got[i];
      }
    }
    cast.choose(Device::kCpu, {});
  }
}

TEST(Cast, EveryBf16AndF16ValueSurvivesTheWayThroughF32) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Runtime runtime;
    Tensor all(runtime, {65536}, dtype);
    auto* bits = static_cast<uint16_t*>(all.raw());
    for (int i = 0; i < 65536; ++i) bits[i] = static_cast<uint16_t>(i);
    const Tensor back = to_dtype(to_dtype(all, DType::kF32), dtype);
    const auto* got = static_cast<const uint16_t*>(back.raw());
    const Values values = to_values(all);
    for (size_t i = 0; i < 65536; ++i) {
      if (std::isnan(values[i])) {
        ASSERT_TRUE(std::isnan(to_values(back.slice(static_cast<int64_t>(i), 1))[0]));
      } else {
        ASSERT_EQ(got[i], bits[i]) << name_of(dtype);
      }
    }
  }
}

TEST(Sum, DoesNotDependOnTheThreadCount) {
  Runtime runtime;
  const Tensor x = from_values(runtime, normal_values("sum", 100003), {100003}, DType::kF32);
  Values totals;
  for (const int threads : {1, 2, 3, 7}) {
    const ScopedThreads scope(threads);
    totals.push_back(to_values(sum(x))[0]);
  }
  for (const double total : totals) EXPECT_EQ(total, totals[0]);
}

TEST(Add, RefusesDifferentShapesWithTheirValues) {
  Runtime runtime;
  const Tensor a = zeros(runtime, {2, 3}, DType::kF32), b = zeros(runtime, {3, 2}, DType::kF32);
  try {
    (void)add(a, b);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("a is [2, 3] f32, b is [3, 2] f32"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace ink
