// The loss on the card at the width of a real vocabulary, and the report of a label beyond it.
#include "engine/ops/lm_loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/autograd/backward.h"
#include "engine/ops/lm_loss_chunk.h"
#include "tests/cuda/card.h"
#include "tests/support/compare.h"
#include "tests/support/values.h"

namespace ink {
namespace {

class CudaLmLoss : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
    runtime_ = std::make_unique<Runtime>(RuntimeOptions{}, make_backend(Device::kCuda));
  }
  std::unique_ptr<Runtime> runtime_;
};

struct Wanted {
  double loss = 0;
  Values gradient;
};

Wanted wanted(const Values& logits, size_t label, const LmLossOptions& o, double weight) {
  const auto V = static_cast<double>(logits.size());
  double max = -INFINITY, exps = 0, mean = 0;
  for (const double x : logits) max = std::max(max, x);
  for (const double x : logits) exps += std::exp(x - max);
  for (const double x : logits) mean += x / V;
  const double lse = max + std::log(exps), s = o.label_smoothing, z = o.z_loss;
  Wanted out{.loss = (1 - s) * (lse - logits[label]) + s * (lse - mean) + z * lse * lse,
             .gradient = {}};
  const double scale = weight / o.divisor;
  for (size_t v = 0; v < logits.size(); ++v) {
    const double of_label = v == label ? 1 - s : 0.0;
    out.gradient.push_back(scale *
                           (std::exp(logits[v] - lse) * (1 + 2 * z * lse) - s / V - of_label));
  }
  return out;
}

// Wide rows, also of a width that no pack divides, whose labels lie first, last and in between.
TEST_F(CudaLmLoss, WideRowsInEveryTypeOfGradient) {
  const LmLossOptions options{.divisor = 3, .label_smoothing = 0.1, .z_loss = 1e-3};
  for (const int64_t V : {92544, 4099, 60001}) {
    const std::vector<int32_t> labels{0, -100, static_cast<int32_t>(V - 1),
                                      static_cast<int32_t>(V / 3)};
    const auto rows = static_cast<int64_t>(labels.size());
    const Values logits = rounded(normal_values("logits", rows * V), DType::kF32);
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      Tensor logits_RV = from_values(*runtime_, logits, {rows, V}, DType::kF32);
      Tensor dlogits_RV = dtype == DType::kF32 ? logits_RV : Tensor(*runtime_, {rows, V}, dtype);
      Tensor loss_R(*runtime_, {rows}, DType::kF32), correct_R(*runtime_, {rows}, DType::kI32);
      cross_entropy(Device::kCuda, to_tensor(*runtime_, labels), {}, options, logits_RV, dlogits_RV,
                    loss_R, correct_R);
      const Values losses = to_values(loss_R), slopes = to_values(dlogits_RV);
      for (size_t r = 0; r < labels.size(); ++r) {
        const auto begin = static_cast<int64_t>(r) * V;
        const Values got(slopes.begin() + begin, slopes.begin() + begin + V);
        if (labels[r] < 0) {
          EXPECT_EQ(losses[r], 0.0);
          EXPECT_EQ(got, Values(static_cast<size_t>(V), 0.0));
          continue;
        }
        const Wanted want = wanted({logits.begin() + begin, logits.begin() + begin + V},
                                   static_cast<size_t>(labels[r]), options, 1.0);
        EXPECT_NEAR(losses[r], want.loss, 1e-6 * want.loss);
        EXPECT_LE(rel_frobenius(got, want.gradient), dtype == DType::kF32 ? 1e-5 : 4e-3)
            << name_of(dtype) << " V=" << V << " row " << r;
      }
    }
  }
}

TEST_F(CudaLmLoss, TheFirstOfEqualLargestLogitsIsTheArgMax) {
  const int64_t V = 3000;
  Values logits(static_cast<size_t>(3 * V), -1.0);
  for (const size_t row : {0, 1, 2}) {
    logits[row * 3000 + 700] = 5;
    logits[row * 3000 + 2900] = 5;
  }
  Tensor logits_RV = from_values(*runtime_, logits, {3, V}, DType::kF32), none;
  Tensor loss_R(*runtime_, {3}, DType::kF32), correct_R(*runtime_, {3}, DType::kI32);
  cross_entropy(Device::kCuda, to_tensor(*runtime_, std::vector<int32_t>{700, 2900, 5}), {}, {},
                logits_RV, none, loss_R, correct_R);
  EXPECT_EQ(to_vector<int32_t>(correct_R), (std::vector<int32_t>{1, 0, 0}));
}

TEST_F(CudaLmLoss, MinusInfinityIsAProbabilityOfZero) {
  const int64_t V = 2500;
  Values logits(static_cast<size_t>(V), -INFINITY);
  logits[1] = logits[2499] = 2;
  Tensor logits_RV = from_values(*runtime_, logits, {1, V}, DType::kF32);
  Tensor loss_R(*runtime_, {1}, DType::kF32), correct_R(*runtime_, {1}, DType::kI32);
  cross_entropy(Device::kCuda, to_tensor(*runtime_, std::vector<int32_t>{2499}), {}, {}, logits_RV,
                logits_RV, loss_R, correct_R);
  EXPECT_NEAR(to_values(loss_R)[0], std::log(2.0), 1e-6);
  Values want(static_cast<size_t>(V));
  want[1] = 0.5;
  want[2499] = -0.5;
  EXPECT_LE(max_abs(to_values(logits_RV), want), 1e-6);
}

TEST_F(CudaLmLoss, ALabelBeyondTheVocabularyIsReportedWhereTheHostWaits) {
  const Tensor labels = to_tensor(*runtime_, std::vector<int32_t>{3, 83, 1});
  Tensor logits_RV = from_values(*runtime_, Values(3 * 83, 0.5), {3, 83}, DType::kF32), none;
  Tensor loss_R(*runtime_, {3}, DType::kF32), correct_R(*runtime_, {3}, DType::kI32);
  cross_entropy(Device::kCuda, labels, {}, {}, logits_RV, none, loss_R, correct_R);
  try {
    (void)to_values(loss_R);
    ADD_FAILURE() << "the label was taken";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "[cross_entropy] label 83 of row 1, V=83");
  }
  EXPECT_NO_THROW((void)to_values(loss_R));  // said once
}

// Multiples of a quarter, -2 to 2: sums of eight products of them are exact in f32.
Values quarters(const std::string& name, int64_t count) {
  Values values = normal_values(name, count);
  for (double& value : values) value = std::clamp(std::round(4 * value) / 4, -2.0, 2.0);
  return values;
}

// Chunks of two rows, three of them a group, the last of both not full: into an f32 gradient, into
// a bf16 one over an f32 sum and, where there are fewer rows, by one product; twice, so that the
// second adds. Logits are the same whatever kernel makes two rows of them or all: else one bit of a
// logit may round its gradient to the next bf16, far beyond the rounding of f32.
TEST_F(CudaLmLoss, GroupsOfChunksGiveTheGradientsOfTheWhole) {
  constexpr int64_t kV = 64, kC = 8;
  for (const DType gradient : {DType::kF32, DType::kBF16}) {
    for (const int64_t rows : {int64_t{41}, int64_t{17}}) {
      const auto train = [&](int64_t chunk_bytes) {
        const Tensor x =
            make_leaf(from_values(*runtime_, quarters("x", rows * kC), {rows, kC}, DType::kBF16),
                      "x", DType::kBF16);
        const Tensor w = make_leaf(
            from_values(*runtime_, quarters("w", kV * kC), {kV, kC}, DType::kBF16), "w", gradient);
        std::vector<int32_t> labels(static_cast<size_t>(rows));
        for (size_t t = 0; t < labels.size(); ++t)
          labels[t] = t % 5 == 4 ? -100 : static_cast<int32_t>(t * 7 % kV);
        const Tensor labels_T = to_tensor(*runtime_, labels);
        Values token;
        for (int pass = 0; pass < 2; ++pass) {
          const LmLoss out =
              lm_loss(x, w, labels_T, {}, {.divisor = 3, .chunk_bytes = chunk_bytes});
          backward(out.loss);
          token = to_values(out.token_loss_T);
        }
        return std::vector{token, to_values(leaf_of(x)->grad), to_values(leaf_of(w)->grad)};
      };
      const LossShape shape{
          .rows = rows, .vocabulary = kV, .width = kC, .dlogits = DType::kBF16, .dw = gradient};
      const int64_t bytes = 2 * kV * 4;
      EXPECT_EQ(loss_rows(shape, Device::kCuda, bytes).sums,
                gradient == DType::kBF16 && rows == 41);
      const std::vector<Values> whole = train(0), cut = train(bytes);
      for (const size_t i : {0, 1})
        EXPECT_LE(rel_frobenius(cut[i], whole[i]), 4e-3) << i << " of " << rows << " rows";
      EXPECT_LE(rel_frobenius(cut[2], whole[2]), gradient == DType::kF32 ? 1e-6 : 4e-3);
    }
  }
}

TEST_F(CudaLmLoss, TheMeanOfManyTokens) {
  const int64_t T = 5000;
  const Values losses = rounded(uniform_values("loss", T, 0, 12), DType::kF32);
  const Values weights = rounded(uniform_values("weight", T, 0, 2), DType::kF32);
  double want = 0;
  for (size_t t = 0; t < losses.size(); ++t) want += losses[t] * weights[t] / 4321.0;
  Tensor loss(*runtime_, {}, DType::kF32);
  weighted_mean(Device::kCuda, from_values(*runtime_, losses, {T}, DType::kF32),
                from_values(*runtime_, weights, {T}, DType::kF32), {.divisor = 4321}, loss);
  EXPECT_NEAR(to_values(loss)[0], want, 1e-6 * want);
}

}  // namespace
}  // namespace ink
