#include "engine/ops/lm_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <tuple>

#include "engine/autograd/backward.h"
#include "engine/ops/embedding.h"
#include "engine/ops/linear.h"
#include "engine/ops/lm_loss_chunk.h"
#include "tests/support/compare.h"
#include "tests/support/op_case.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

constexpr int64_t kC = 24, kV = 83;

Values some_labels(const Shape& shape) {
  Values labels(static_cast<size_t>(shape.numel()));
  for (size_t t = 0; t < labels.size(); ++t)
    labels[t] = t % 4 == 1 ? -100.0 : static_cast<double>((t * 31 + 7) % kV);
  return labels;
}

// {loss, token losses, correct}; in = {x_TC, w_VC, labels_T[, weight_T]}.
std::vector<Values> composed(const std::vector<Values>& in, const LmLossOptions& o) {
  const Values &x = in[0], &w = in[1], &labels = in[2];
  const size_t C = kC, V = kV;
  Values token(labels.size()), correct(labels.size());
  double loss = 0;
  for (size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] < 0) continue;
    Values logits(V);
    double mean = 0, exps = 0, best = -INFINITY;
    for (size_t v = 0; v < V; ++v) {
      for (size_t c = 0; c < C; ++c) logits[v] += x[t * C + c] * w[v * C + c];
      mean += logits[v] / static_cast<double>(V);
      exps += std::exp(logits[v]);
      best = std::max(best, logits[v]);
    }
    const double lse = std::log(exps), of_label = logits[static_cast<size_t>(labels[t])];
    token[t] = (1 - o.label_smoothing) * (lse - of_label) + o.label_smoothing * (lse - mean) +
               o.z_loss * lse * lse;
    correct[t] = of_label == best ? 1 : 0;
    loss += token[t] * (in.size() > 3 ? in[3][t] : 1.0) / o.divisor;
  }
  return {{loss}, token, correct};
}

OpCase loss_case(const char* name, const LmLossOptions& options, bool weighted,
                 const std::optional<StepState>& state = {}) {
  OpCase row{.name = name,
             .inputs = {{.name = "x_TC", .shape = {14, kC}},
                        {.name = "w_VC", .shape = {kV, kC}, .role = Role::kParameter},
                        {.name = "labels_T",
                         .shape = {14},
                         .role = Role::kConstant,
                         .values = some_labels,
                         .dtype = DType::kI32}},
             .run = [=](const std::vector<Tensor>& in) -> std::vector<Tensor> {
               LmLossOptions given = options;
               if (state) {  // what the kernels must not look at is wrong
                 given.divisor = NAN;
                 given.step_state = step_state_tensor(in[0].runtime(), *state);
               }
               const LmLoss out = lm_loss(in[0], in[1], in[2], weighted ? in[3] : Tensor(), given);
               return {out.loss, out.token_loss_T, out.correct_T};
             },
             .composed = [options](const std::vector<Values>& in) { return composed(in, options); },
             // Logits are f32 whatever the storage: only the rounding of dlogits, dx and x shows.
             .tolerance = {.f32 = 1e-6, .bf16 = 1e-6, .f16 = 1e-6},
             .slots = {&cross_entropy, &weighted_mean},
             .differentiable = 1,
             .unit_seeds = true};
  if (weighted) {
    row.inputs.push_back({.name = "weight_T",
                          .shape = {14},
                          .role = Role::kConstant,
                          .low = 0,
                          .high = 2,
                          .dtype = DType::kF32});
  }
  return row;
}

constexpr int64_t kThreeRows = 3 * kV * 4;
REGISTER_OP_CASE(loss_case("lm_loss", {.divisor = 9}, false));
REGISTER_OP_CASE(loss_case("lm_loss_chunked_weighted", {.divisor = 5, .chunk_bytes = kThreeRows},
                           true));
REGISTER_OP_CASE(loss_case("lm_loss_smoothed",
                           {.divisor = 7, .label_smoothing = 0.1, .z_loss = 1e-2}, true));

OpCase with_bf16_gradient(OpCase row) {
  row.name += "_bf16_gradient";
  row.dtypes = {DType::kBF16};
  row.bf16_gradients = DType::kBF16;
  return row;
}
REGISTER_OP_CASE(with_bf16_gradient(loss_case("lm_loss_chunked",
                                              {.divisor = 5, .chunk_bytes = kThreeRows}, true)));

REGISTER_OP_CASE(loss_case("lm_loss_of_step", {.divisor = 9}, true,
                           StepState{.batch = {.divisor = 9}}));

struct Head {
  Head(Runtime& runtime, DType dtype, int64_t rows = 14, DType gradient = DType::kF32) {
    x = make_leaf(from_values(runtime, normal_values("x", rows * kC), {rows, kC}, dtype), "x",
                  dtype);
    w = make_leaf(from_values(runtime, normal_values("w", kV * kC), {kV, kC}, dtype), "w",
                  dtype == DType::kF64 ? dtype : gradient);
    labels = from_values(runtime, some_labels({rows}), {rows}, DType::kI32);
  }
  Tensor x, w, labels;
};

struct Outcome {
  Values loss, token, dx, dw;
};

Outcome train(DType dtype, const LmLossOptions& given, int threads = 2,
              const std::optional<StepState>& state = {}, int64_t rows = 14) {
  const ScopedThreads scope(threads);
  Runtime runtime;
  const Head head(runtime, dtype, rows);
  LmLossOptions options = given;
  if (state) options.step_state = step_state_tensor(runtime, *state);
  const LmLoss out = lm_loss(head.x, head.w, head.labels, {}, options);
  backward(out.loss);
  return {to_values(out.loss), to_values(out.token_loss_T), to_values(leaf_of(head.x)->grad),
          to_values(leaf_of(head.w)->grad)};
}

TEST(LmLoss, ChunksDoNotChangeTheResult) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Outcome whole = train(dtype, {.divisor = 3});
    for (const int64_t bytes : {int64_t{1}, int64_t{5 * kV * 4}}) {
      const Outcome cut = train(dtype, {.divisor = 3, .chunk_bytes = bytes});
      EXPECT_LE(rel_frobenius(cut.loss, whole.loss), 1e-6) << name_of(dtype);
      EXPECT_LE(rel_frobenius(cut.token, whole.token), 1e-6) << name_of(dtype);
      EXPECT_LE(rel_frobenius(cut.dx, whole.dx), dtype == DType::kBF16 ? 2e-3 : 1e-6);
      EXPECT_LE(rel_frobenius(cut.dw, whole.dw), dtype == DType::kBF16 ? 2e-3 : 1e-6);
    }
  }
}

// 300 rows in chunks of at most 130: two of 128, which a matrix product likes, and the rest.
TEST(LmLoss, LongChunksAreWholeTiles) {
  const LmLossOptions cut{.divisor = 3, .chunk_bytes = 130 * kV * 4};
  const Outcome whole = train(DType::kF32, {.divisor = 3}, 2, {}, 300);
  const Outcome got = train(DType::kF32, cut, 2, {}, 300);
  EXPECT_EQ(got.token.size(), 300u);
  EXPECT_LE(rel_frobenius(got.token, whole.token), 1e-6);
  EXPECT_LE(rel_frobenius(got.dx, whole.dx), 1e-6);
  EXPECT_LE(rel_frobenius(got.dw, whole.dw), 1e-6);
}

// InternLM2's vocabulary: 512 rows of logits, and the gradients of three times as many on a card.
TEST(LmLoss, RowsOfChunksAndGroups) {
  const auto cut = [](LossShape shape, Device device) {
    const LossRows rows = loss_rows(shape, device, loss_chunk_bytes(device));
    return std::tuple(rows.chunk, rows.group, rows.sums);
  };
  const LossShape small{.rows = 16384, .vocabulary = 92544, .width = 2048, .dlogits = DType::kBF16};
  EXPECT_EQ(cut(small, Device::kCuda), std::tuple(512, 1536, false));
  EXPECT_LE(loss_rows(small, Device::kCuda, loss_chunk_bytes(Device::kCuda)).bytes(small),
            512'000'000);
  EXPECT_EQ(cut(small, Device::kCpu), std::tuple(128, 128, false));
  // Where the gradient has the memory of the logits, a group is a chunk.
  EXPECT_EQ(cut({.rows = 16384, .vocabulary = 92544, .width = 2048}, Device::kCuda),
            std::tuple(512, 512, false));
  // A bf16 gradient of the head: one product where the sum of several would take more memory.
  const auto narrow = [](int64_t rows) {
    return LossShape{.rows = rows,
                     .vocabulary = 92544,
                     .width = 4096,
                     .dlogits = DType::kBF16,
                     .dw = DType::kBF16};
  };
  EXPECT_EQ(cut(narrow(4096), Device::kCuda), std::tuple(512, 4096, false));
  EXPECT_EQ(cut(narrow(16384), Device::kCuda), std::tuple(512, 1536, true));
  EXPECT_EQ(cut(narrow(4096), Device::kCpu), std::tuple(128, 128, true));
  EXPECT_EQ(cut({.rows = 0, .vocabulary = 92544, .width = 2048}, Device::kCuda),
            std::tuple(0, 0, false));
}

// However many chunks: their sum is in f32 and rounded once, and added to what was there before.
TEST(LmLoss, ChunksOfABf16GradientMeetInF32) {
  for (const int64_t bytes : {int64_t{1}, int64_t{5 * kV * 4}, int64_t{1} << 20}) {
    Runtime runtime;
    const Head wide(runtime, DType::kBF16), narrow(runtime, DType::kBF16, 14, DType::kBF16);
    const auto pass = [&](const Head& head) {
      backward(lm_loss(head.x, head.w, head.labels, {}, {.divisor = 3, .chunk_bytes = bytes}).loss);
      return to_values(leaf_of(head.w)->grad);
    };
    Values want = rounded(pass(wide), DType::kBF16);
    EXPECT_EQ(pass(narrow), want) << bytes;
    EXPECT_EQ(leaf_of(narrow.w)->grad.dtype(), DType::kBF16);
    leaf_of(wide.w)->has_grad = false;
    const Values again = pass(wide);
    for (size_t i = 0; i < want.size(); ++i) want[i] += again[i];
    EXPECT_EQ(pass(narrow), rounded(want, DType::kBF16)) << bytes;
  }
}

TEST(LmLoss, ThreadsAgree) {
  const Outcome one = train(DType::kF32, {.divisor = 3}, 1);
  const Outcome two = train(DType::kF32, {.divisor = 3}, 2);
  EXPECT_LE(rel_frobenius(two.loss, one.loss), 1e-6);
  EXPECT_LE(rel_frobenius(two.dx, one.dx), 1e-6);
  EXPECT_LE(rel_frobenius(two.dw, one.dw), 1e-6);
}

TEST(LmLoss, TheLossScaleOfTheStepIsInTheGradientsAlone) {
  const Outcome plain = train(DType::kF64, {.divisor = 3});
  Outcome scaled =
      train(DType::kF64, {}, 2, StepState{.loss_scale = 1024, .batch = {.divisor = 3}});
  EXPECT_EQ(scaled.loss, plain.loss);
  for (double& value : scaled.dx) value /= 1024;
  for (double& value : scaled.dw) value /= 1024;
  EXPECT_LE(rel_frobenius(scaled.dx, plain.dx), 1e-14);
  EXPECT_LE(rel_frobenius(scaled.dw, plain.dw), 1e-14);
}

TEST(LmLoss, WithoutGradientsNothingIsRecorded) {
  Runtime runtime;
  const Head head(runtime, DType::kF32);
  const LmLoss with = lm_loss(head.x, head.w, head.labels, {}, {.divisor = 3});
  leaf_of(head.w)->grad = {};
  leaf_of(head.w)->has_grad = false;
  const Scoped guard(runtime.grad_enabled, false);
  const LmLoss without = lm_loss(head.x, head.w, head.labels, {}, {.divisor = 3});
  EXPECT_EQ(without.loss.grad_meta(), nullptr);
  EXPECT_FALSE(leaf_of(head.w)->grad.defined());
  EXPECT_EQ(to_values(without.loss), to_values(with.loss));
}

TEST(LmLoss, MaskedRowsGiveNothing) {
  Runtime runtime;
  Head head(runtime, DType::kF32);
  head.labels = from_values(runtime, Values(14, -100.0), {14}, DType::kI32);
  const LmLoss out = lm_loss(head.x, head.w, head.labels, {}, {.divisor = 3});
  backward(out.loss);
  EXPECT_EQ(to_values(out.loss), Values{0.0});
  EXPECT_EQ(max_abs(to_values(out.token_loss_T), Values(14, 0.0)), 0);
  EXPECT_EQ(max_abs(to_values(leaf_of(head.x)->grad), Values(14 * kC, 0.0)), 0);
  EXPECT_EQ(max_abs(to_values(leaf_of(head.w)->grad), Values(kV * kC, 0.0)), 0);
}

TEST(LmLoss, AFrozenHeadStillHandsOutTheInputGradient) {
  Runtime runtime;
  const Head head(runtime, DType::kF32);
  leaf_of(head.w)->requires_grad = false;
  backward(lm_loss(head.x, head.w, head.labels, {}, {.divisor = 3}).loss);
  EXPECT_FALSE(leaf_of(head.w)->grad.defined());
  EXPECT_EQ(to_values(leaf_of(head.x)->grad), train(DType::kF32, {.divisor = 3}).dx);
}

// Large logits would overflow without the maximum taken out; a tie is won by the first.
TEST(LmLoss, LargeLogitsAndTies) {
  Runtime runtime;
  const Tensor labels = from_values(runtime, {1, 2}, {2}, DType::kI32);
  Tensor loss(runtime, {2}, DType::kF32), correct(runtime, {2}, DType::kI32), none;
  for (const std::string_view label : cross_entropy.labels(Device::kCpu)) {
    cross_entropy.choose(Device::kCpu, label);
    Tensor logits =
        from_values(runtime, {-9e4, 9e4, 9e4, 0, 3e4, 3e4, 3e4, 3e4}, {2, 4}, DType::kF32);
    cross_entropy(Device::kCpu, labels, {}, {}, logits, none, loss, correct);
    EXPECT_LE(rel_frobenius(to_values(loss), Values{std::log(2.0), std::log(4.0)}), 1e-6) << label;
    EXPECT_EQ(to_values(correct), (Values{1, 0})) << label;
  }
  cross_entropy.choose(Device::kCpu, {});
}

TEST(LmLoss, ALabelBeyondTheVocabularyIsNamed) {
  Runtime runtime;
  Head head(runtime, DType::kF32);
  head.labels = from_values(runtime, Values(14, kV), {14}, DType::kI32);
  EXPECT_THROW((void)lm_loss(head.x, head.w, head.labels, {}, {}), Error);
}

TEST(LmLoss, RefusesAnotherSeedThanOne) {
  Runtime runtime;
  const Head head(runtime, DType::kF32);
  const LmLoss out = lm_loss(head.x, head.w, head.labels, {}, {.divisor = 3});
  EXPECT_THROW(backward({out.loss}, {from_values(runtime, {2.0}, {}, DType::kF32)}), Error);
}

// Embedding and head on one leaf: ready once, after both, with the sum of both gradients.
TEST(LmLoss, TiedWithTheEmbedding) {
  Runtime runtime;
  const Values values = normal_values("tied", kV * kC);
  const auto make = [&](const char* name) {
    return make_leaf(from_values(runtime, values, {kV, kC}, DType::kF32), name);
  };
  const Tensor ids = from_values(runtime, {3, 1, 4, 1, 5}, {5}, DType::kI32);
  const Tensor labels = from_values(runtime, {1, 4, 1, 5, 9}, {5}, DType::kI32);
  const Tensor table = make("table"), head = make("head"), tied = make("tied");
  backward(lm_loss(embedding(ids, table), head, labels, {}, {.divisor = 5}).loss);
  Values want = to_values(leaf_of(table)->grad);
  const Values of_head = to_values(leaf_of(head)->grad);
  for (size_t i = 0; i < want.size(); ++i) want[i] += of_head[i];

  std::vector<Values> seen;
  leaf_of(tied)->on_grad_ready = [&](Leaf& leaf) { seen.push_back(to_values(leaf.grad)); };
  const LmLoss out = lm_loss(embedding(ids, tied), tied, labels, {}, {.divisor = 5});
  EXPECT_TRUE(seen.empty());
  backward(out.loss);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_LE(rel_frobenius(seen[0], want), 1e-6);
}

}  // namespace
}  // namespace ink
