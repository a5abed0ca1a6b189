#include <gtest/gtest.h>

#include <utility>

#include "engine/ops/elementwise.h"
#include "engine/ops/step_state.h"
#include "tests/support/op_case.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

constexpr float kP = 0.25f;
const DropoutKey kKey{.key = philox_key(7, "dropout.layers.0.attention"), .step = 5};

// Element (t, c): word c % 4 of the block with counter (token id, step and c / 4).
bool kept(const DropoutKey& key, int64_t token, int64_t channel, float p) {
  const uint64_t high =
      (static_cast<uint64_t>(key.step) << 32) + static_cast<uint64_t>(channel / 4);
  return uniform_open(philox(key.key, static_cast<uint64_t>(token), high)
                          .v[static_cast<size_t>(channel) % 4]) >= p;
}

Values token_ids(const Shape& shape) {
  Values ids(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = 1000.0 + 3.0 * static_cast<double>(i);
  return ids;
}

OpCase dropout_case(const char* name, bool step_on_device) {
  return {.name = name,
          .inputs = {{.name = "x_TC", .shape = {6, 1061}},
                     {.name = "token_id_T",
                      .shape = {6},
                      .role = Role::kConstant,
                      .values = token_ids,
                      .dtype = DType::kI64}},
          .run = [=](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            DropoutKey key = kKey;
            if (step_on_device) {
              const StepState state{.batch = {.step = std::exchange(key.step, -1)}};
              key.step_state = step_state_tensor(in[0].runtime(), state);
            }
            return {dropout(in[0], in[1], kP, key)};
          },
          .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
            Values y = in[0];
            const size_t C = 1061;
            for (size_t i = 0; i < y.size(); ++i) {
              const auto token = static_cast<int64_t>(in[1][i / C]);
              const bool keep = kept(kKey, token, static_cast<int64_t>(i % C), kP);
              y[i] = keep ? y[i] / (1 - double{kP}) : 0.0;
            }
            return {y};
          },
          .slots = {&dropout_apply}};
}

REGISTER_OP_CASE(dropout_case("dropout", false));
REGISTER_OP_CASE(dropout_case("dropout_of_step", true));

Tensor token_tensor(Runtime& runtime, int64_t first, int64_t count) {
  Values ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<double>(first) + static_cast<double>(i);
  return from_values(runtime, ids, {count}, DType::kI64);
}

Values mask(Runtime& runtime, int64_t first, int64_t count, int64_t C, const DropoutKey& key) {
  const Tensor ones =
      from_values(runtime, Values(static_cast<size_t>(count * C), 1.0), {count, C}, DType::kF32);
  return to_values(dropout(ones, token_tensor(runtime, first, count), kP, key));
}

TEST(Dropout, TheMaskOfATokenIsTheSameOnEveryLayout) {
  Runtime runtime;
  const Values whole = mask(runtime, 0, 8, 64, kKey);
  for (const int64_t first : {0, 4}) {  // two ranks, four tokens each, several threads
    const ScopedThreads threads(first == 0 ? 1 : 3);
    const Values half = mask(runtime, first, 4, 64, kKey);
    for (size_t i = 0; i < half.size(); ++i)
      ASSERT_EQ(half[i], whole[static_cast<size_t>(first) * 64 + i]);
  }
}

TEST(Dropout, KeepsTheRightShareAndMasksOfStepsAndPlacesDiffer) {
  Runtime runtime;
  const int64_t T = 256, C = 256;
  const Values here = mask(runtime, 0, T, C, kKey);
  const Values next_step = mask(runtime, 0, T, C, {.key = kKey.key, .step = 6});
  const Values other_place =
      mask(runtime, 0, T, C, {.key = philox_key(7, "dropout.layers.1.attention"), .step = 5});
  const auto n = static_cast<double>(here.size());
  double share = 0, with_step = 0, with_place = 0;
  for (size_t i = 0; i < here.size(); ++i) {
    const double a = here[i] > 0 ? 1 - 0.75 : -0.75;
    share += here[i] > 0 ? 1 : 0;
    with_step += a * (next_step[i] > 0 ? 1 - 0.75 : -0.75);
    with_place += a * (other_place[i] > 0 ? 1 - 0.75 : -0.75);
  }
  EXPECT_NEAR(share / n, 0.75, 0.01);
  EXPECT_LT(std::abs(with_step / n) / (0.75 * 0.25), 0.02);  // correlation
  EXPECT_LT(std::abs(with_place / n) / (0.75 * 0.25), 0.02);
}

TEST(Dropout, IsTheIdentityWhenNotTrainingAndAtZero) {
  Runtime runtime;
  const Tensor x = from_values(runtime, normal_values("x", 12), {3, 4}, DType::kF32);
  const Tensor ids = token_tensor(runtime, 0, 3);
  EXPECT_TRUE(dropout(x, ids, 0.0f, kKey).shares_storage(x));
  const Scoped guard(runtime.training, false);
  EXPECT_TRUE(dropout(x, ids, kP, kKey).shares_storage(x));
  EXPECT_THROW((void)dropout(x, ids, 1.0f, kKey), InternalError);
}

}  // namespace
}  // namespace ink
