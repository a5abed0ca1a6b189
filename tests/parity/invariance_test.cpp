// What must not change a result on one rank: packing, padding, grouping into micro-batches, the
// order of rows, recomputation. And gradients against finite differences of the whole model in f64.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/autograd/backward.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linear.h"
#include "engine/ops/rms_norm.h"
#include "engine/ops/swiglu.h"
#include "launch/trainer/device_batch.h"
#include "parallel/comm/self_group.h"
#include "tests/support/compare.h"
#include "tests/support/kernel_calls.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

double relative(double got, double want) { return std::abs(got - want) / std::abs(want); }

class Invariance : public testing::Test {
 protected:
  Golden golden_{"internlm2"};
  Fixture fixture_;
  std::unique_ptr<ProcessGroup> alone_ = make_self_group();

  struct Step {
    double loss;
    NamedValues gradients;
  };
  // Loss and gradients of step 0 with the rows of the global batch in this order, `group` of them
  // per micro-batch.
  Step step_of(const std::vector<int64_t>& rows, size_t group, const TraineeOptions& options = {}) {
    Trainee trainee(golden_, *alone_, options);
    std::vector<HostBatch> micro_batches;
    for (size_t i = 0; i < rows.size(); i += group)
      micro_batches.push_back(
          fixture_.pack(0, std::span(rows).subspan(i, std::min(group, rows.size() - i))));
    const StepResult result = trainee.step().run(micro_batches, fixture_.trained(0), 1);
    return {result.loss, trainee.gradients()};
  }
};

Values logits_of(Trainee& trainee, const HostBatch& host) {
  const Scoped no_grad(trainee.runtime().grad_enabled, false);
  return to_values(trainee.model().logits(to_device(trainee.runtime(), host, 1.0, 0), 0));
}

TEST_F(Invariance, PackedRowEqualsItsDocumentsAlone) {
  Trainee trainee(golden_, *alone_);
  for (int64_t row = 0; row < fixture_.rows(); ++row) {
    const HostBatch packed = fixture_.pack(0, {row});
    ASSERT_GE(packed.cu_seqlens.size(), 4u) << "row " << row << " holds fewer than 3 documents";
    double alone = 0;
    for (size_t d = 0; d + 1 < packed.cu_seqlens.size(); ++d)
      alone += trainee.loss_sum(document_alone(packed, d));
    if (packed.trained == 0) {
      EXPECT_EQ(trainee.loss_sum(packed), 0.0);
    } else {
      EXPECT_LE(relative(trainee.loss_sum(packed), alone), 1e-6) << "row " << row;
    }
  }
}

// The check above has to see a missing document mask.
TEST_F(Invariance, MergedDocumentsAreNoticed) {
  Trainee trainee(golden_, *alone_);
  for (const int64_t row : {3, 7}) {
    const HostBatch packed = fixture_.pack(0, {row});
    HostBatch merged = packed;
    merged.max_seqlen = static_cast<int32_t>(fixture_.length());
    merged.cu_seqlens = {0, merged.max_seqlen};
    EXPECT_GT(relative(trainee.loss_sum(merged), trainee.loss_sum(packed)), 1e-5) << "row " << row;
  }
}

TEST_F(Invariance, EditingOneDocumentChangesNoBitOfAnother) {
  Trainee trainee(golden_, *alone_);
  const HostBatch packed = fixture_.pack(0, {3, 6, 7});
  const Values before = logits_of(trainee, packed);
  const auto vocabulary = static_cast<size_t>(golden_.options().vocab_size);
  for (const size_t edited : {size_t{0}, packed.cu_seqlens.size() / 2}) {
    HostBatch other = packed;
    const auto begin = static_cast<size_t>(packed.cu_seqlens[edited]);
    const auto end = static_cast<size_t>(packed.cu_seqlens[edited + 1]);
    for (size_t t = begin; t < end; ++t) {
      other.tokens[t] = (other.tokens[t] + 1) % static_cast<int32_t>(vocabulary);
    }
    const Values after = logits_of(trainee, other);
    for (size_t i = 0; i < before.size(); ++i) {
      const size_t t = i / vocabulary;
      if (t >= begin && t < end) continue;
      ASSERT_EQ(before[i], after[i]) << "token " << t << " after an edit of document " << edited;
    }
    EXPECT_GT(max_abs(before, after), 1e-3) << "the edit changed nothing";
  }
}

// Scores depend on differences of positions, so no loss sees a missing restart: the positions
// themselves are compared.
TEST_F(Invariance, PositionsRestartInEveryDocument) {
  for (int64_t step = 0; step < fixture_.steps(); ++step) {
    const HostBatch batch = fixture_.all(step);
    std::vector<int32_t> want;
    for (size_t d = 0; d + 1 < batch.cu_seqlens.size(); ++d) {
      for (int32_t t = batch.cu_seqlens[d]; t < batch.cu_seqlens[d + 1]; ++t)
        want.push_back(t - batch.cu_seqlens[d]);
    }
    Runtime runtime;
    EXPECT_EQ(to_vector<int32_t>(to_device(runtime, batch, 1.0, step).positions_T), want);
  }
  Trainee trainee(golden_, *alone_);
  const HostBatch batch = fixture_.pack(0, {3});
  HostBatch running = batch;
  for (size_t t = 0; t < running.positions.size(); ++t)
    running.positions[t] = static_cast<int32_t>(t);
  EXPECT_NE(running.positions, batch.positions);
  EXPECT_LE(relative(trainee.loss_sum(running), trainee.loss_sum(batch)), 1e-5);
  // A restart inside a document is another matter.
  HostBatch torn = batch;
  const int32_t middle = (torn.cu_seqlens[0] + torn.cu_seqlens[1]) / 2;
  for (int32_t t = middle; t < torn.cu_seqlens[1]; ++t)
    torn.positions[static_cast<size_t>(t)] = t - middle;
  EXPECT_GT(max_abs(logits_of(trainee, torn), logits_of(trainee, batch)), 1e-3);
}

TEST_F(Invariance, PaddingOnTheRight) {
  Trainee trainee(golden_, *alone_);
  const HostBatch batch = fixture_.pack(0, {3, 7});
  const auto divisor = static_cast<double>(batch.trained);
  const double loss = trainee.backward_of(batch, divisor);
  const NamedValues gradients = trainee.gradients();
  for (const int32_t count : {1, 17, 64}) {
    EXPECT_LE(relative(trainee.backward_of(fixture_.with_padding(batch, count), divisor), loss),
              1e-7)
        << count << " tokens of padding";
    expect_close(trainee.gradients(), gradients, 1e-6, "gradient with padding");
  }
  HostBatch longer = batch;
  longer.max_seqlen = 4096;
  EXPECT_EQ(trainee.backward_of(longer, divisor), loss);
}

TEST_F(Invariance, GroupingIntoMicroBatches) {
  const std::vector<int64_t> rows = fixture_.in_order();
  const Step whole = step_of(rows, rows.size());
  for (const size_t group : {size_t{4}, size_t{1}}) {
    const Step grouped = step_of(rows, group);
    EXPECT_LE(relative(grouped.loss, whole.loss), 1e-6) << group << " rows per micro-batch";
    expect_close(grouped.gradients, whole.gradients, 1e-5, "gradient");
  }
}

TEST_F(Invariance, OrderOfRows) {
  const Step whole = step_of(fixture_.in_order(), 4);
  std::vector<int64_t> rows = fixture_.in_order();
  std::reverse(rows.begin(), rows.end());
  std::stable_partition(rows.begin(), rows.end(), [](int64_t row) { return row % 3 == 1; });
  const Step shuffled = step_of(rows, 4);
  EXPECT_LE(relative(shuffled.loss, whole.loss), 1e-6);
  expect_close(shuffled.gradients, whole.gradients, 1e-5, "gradient");
}

TEST_F(Invariance, RecomputationChangesNoBit) {
  for (const double dropout : {0.0, 0.1}) {
    for (const DType compute : {DType::kF32, DType::kBF16}) {
      TraineeOptions options;
      options.dropout = dropout;
      options.compute = compute;
      const Step plain = step_of(fixture_.in_order(), 4, options);
      for (const Recompute mode : {Recompute::kSelective, Recompute::kFull}) {
        options.recompute = mode;
        const Step again = step_of(fixture_.in_order(), 4, options);
        EXPECT_EQ(again.loss, plain.loss);
        std::string worst;
        EXPECT_EQ(worst_distance(again.gradients, plain.gradients, &worst), 0.0)
            << worst << ", dropout " << dropout << ", " << name_of(compute) << ", mode "
            << static_cast<int>(mode);
      }
    }
  }
}

TEST_F(Invariance, RecomputationSavesMemory) {
  if (golden_.options().num_hidden_layers < 2) GTEST_SKIP() << "one layer is all there is to keep";
  std::vector<int64_t> peaks;
  for (const Recompute mode : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    TraineeOptions options;
    options.recompute = mode;
    Trainee trainee(golden_, *alone_, options);
    trainee.backward_of(fixture_.all(0), 1.0);
    const MemoryReport report = trainee.runtime().allocator().report();
    peaks.push_back(report.peak[static_cast<size_t>(MemoryTag::kActivations)]);
  }
  EXPECT_LT(peaks[1], peaks[0]);
  EXPECT_LT(peaks[2], peaks[1]);
}

// Gradients meet inside of products and norms: no model of ours needs a kernel that adds two.
TEST(GradientsOfAModel, AreAddedByNoKernelOfTheirOwn) {
  const Fixture fixture;
  const std::unique_ptr<ProcessGroup> alone = make_self_group();
  for (const char* model : {"internlm1", "internlm2", "internlm3", "llama_tied", "qwen2_tied"}) {
    const Golden golden(model);
    for (const Recompute mode : {Recompute::kNone, Recompute::kSelective}) {
      TraineeOptions options;
      options.recompute = mode;
      Trainee trainee(golden, *alone, options);
      const KernelCalls calls;
      trainee.backward_of(fixture.pack(0, {0, 1}), 1.0);
      EXPECT_GT(calls.of(linear_backward_input), 0) << model;
      EXPECT_EQ(calls.of(accumulate), 0) << model;
      // Under selective recompute both norms of a layer are rebuilt, each once.
      const int64_t norms = 2 * golden.options().num_hidden_layers;
      EXPECT_EQ(calls.of(rms_norm_apply), mode == Recompute::kSelective ? norms : 0) << model;
      // The product of gate and up comes with its gradients.
      EXPECT_EQ(calls.of(swiglu_forward), golden.options().num_hidden_layers) << model;
    }
  }
}

// Dropout is keyed by the token's place in the global batch: grouping does not change the masks,
// other ids do.
TEST_F(Invariance, DropoutMasksBelongToTokens) {
  TraineeOptions options;
  options.dropout = 0.1;
  const auto all = static_cast<size_t>(fixture_.rows());
  const Step whole = step_of(fixture_.in_order(), all, options);
  const Step grouped = step_of(fixture_.in_order(), 4, options);
  EXPECT_LE(relative(grouped.loss, whole.loss), 1e-6);
  expect_close(grouped.gradients, whole.gradients, 1e-5, "gradient with dropout");
  EXPECT_GT(worst_distance(step_of(fixture_.in_order(), all).gradients, whole.gradients), 1e-2)
      << "dropout does nothing";

  // Ids that start again in every micro-batch are another run.
  Trainee trainee(golden_, *alone_, options);
  std::vector<HostBatch> micro_batches;
  for (int64_t row = 0; row < fixture_.rows(); ++row) {
    micro_batches.push_back(fixture_.pack(0, {row}));
    for (size_t t = 0; t < micro_batches.back().token_ids.size(); ++t)
      micro_batches.back().token_ids[t] = static_cast<int64_t>(t);
  }
  trainee.step().run(micro_batches, fixture_.trained(0), 1);
  EXPECT_GT(worst_distance(trainee.gradients(), whole.gradients), 1e-2);
}

TEST_F(Invariance, DropoutMasksOfOtherTokensPlacesAndStepsAreUnrelated) {
  Runtime runtime;
  constexpr int64_t kRows = 512, kColumns = 1024;
  const Tensor ones =
      from_values(runtime, Values(kRows * kColumns, 1.0), {kRows, kColumns}, DType::kF32);
  const auto mask = [&](int64_t first_token, const char* place, int64_t step) {
    std::vector<int64_t> ids(kRows);
    for (size_t t = 0; t < ids.size(); ++t) ids[t] = first_token + static_cast<int64_t>(t);
    return to_values(dropout(ones, to_tensor(runtime, ids), 0.1f, {philox_key(0, place), step}));
  };
  const auto correlation = [](const Values& a, const Values& b) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      ab += (a[i] - 1) * (b[i] - 1);
      aa += (a[i] - 1) * (a[i] - 1);
      bb += (b[i] - 1) * (b[i] - 1);
    }
    return ab / std::sqrt(aa * bb);
  };
  const Values base = mask(0, "a", 0);
  EXPECT_EQ(base, mask(0, "a", 0));
  EXPECT_LT(std::abs(correlation(base, mask(kRows, "a", 0))), 0.01);
  EXPECT_LT(std::abs(correlation(base, mask(0, "b", 0))), 0.01);
  EXPECT_LT(std::abs(correlation(base, mask(0, "a", 1))), 0.01);
}

TEST_F(Invariance, EmptyStepChangesNothing) {
  Trainee trainee(golden_, *alone_);
  HostBatch batch = fixture_.all(0);
  mask_all_labels(batch);
  const NamedValues before = trainee.parameters();
  const StepResult result = trainee.step().run({&batch, 1}, 0, 1);
  EXPECT_TRUE(result.empty);
  EXPECT_EQ(result.state.updates, 0);
  EXPECT_EQ(trainee.parameters(), before);
  EXPECT_EQ(trainee.step().run({&batch, 1}, 0, 2).loss, 0.0);
}

// Evaluation leaves parameters, randomness and the clock alone and does not drop anything.
TEST_F(Invariance, EvaluationLeavesTrainingAlone) {
  TraineeOptions options;
  options.dropout = 0.1;
  const int64_t last = fixture_.steps() - 1;
  const auto losses = [&](bool evaluate) {
    Trainee trainee(golden_, *alone_, options);
    std::vector<double> run;
    for (int64_t step = 0; step < 3; ++step) {
      const HostBatch batch = fixture_.all(step);
      run.push_back(trainee.step().run({&batch, 1}, fixture_.trained(step), step + 1).loss);
      if (!evaluate) continue;
      const EvalResult whole = trainee.step().evaluate(
          1, [&](int64_t) { return fixture_.all(last); }, fixture_.trained(last));
      const EvalResult rows = trainee.step().evaluate(
          fixture_.rows(), [&](int64_t i) { return fixture_.pack(last, {i}); },
          fixture_.trained(last));
      EXPECT_LE(relative(rows.loss, whole.loss), 1e-6);
      EXPECT_EQ(rows.accuracy, whole.accuracy);
    }
    return run;
  };
  EXPECT_EQ(losses(true), losses(false));
}

// The kind of a parameter: its name without the layer.
std::string kind_of(const std::string& name) {
  if (!name.starts_with("layers.")) return name;
  return name.substr(name.find('.', 7) + 1);
}

class FiniteDifferences : public testing::TestWithParam<const char*> {};

TEST_P(FiniteDifferences, ThreeEntriesOfEveryKindOfParameter) {
  const Golden golden(GetParam());
  const Fixture fixture;
  const auto alone = make_self_group();
  TraineeOptions options;
  options.compute = DType::kF64;
  Trainee trainee(golden, *alone, options);
  const HostBatch batch = fixture.pack(0, {3, 6});
  const auto divisor = static_cast<double>(batch.trained);
  trainee.backward_of(batch, divisor);
  std::set<std::string> seen;
  for (const auto& parameter : trainee.table().all()) {
    // The last layer's are as good as any; the loop meets the first.
    if (!parameter->tied_to.empty() || !seen.insert(kind_of(parameter->name)).second) continue;
    const Values gradient = to_values(parameter->grad().reshape({parameter->shape.numel()}));
    std::vector<size_t> order(gradient.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return std::abs(gradient[a]) > std::abs(gradient[b]); });
    const double scale = std::abs(gradient[order[0]]);
    ASSERT_GT(scale, 0) << parameter->name;
    auto* value = parameter->value().data<double>();
    // The largest, one of the middle of those that matter, and one from the upper tenth.
    for (const size_t i : {order[0], order[order.size() / 10], order[order.size() / 4]}) {
      constexpr double kStep = 1e-5;
      const double before = value[i];
      value[i] = before + kStep;
      const double up = trainee.loss_sum(batch) / divisor;
      value[i] = before - kStep;
      const double down = trainee.loss_sum(batch) / divisor;
      value[i] = before;
      EXPECT_NEAR((up - down) / (2 * kStep), gradient[i],
                  1e-5 * std::max(std::abs(gradient[i]), 0.01 * scale))
          << parameter->name << "[" << i << "]";
    }
  }
  EXPECT_GE(seen.size(), 8u);
}

INSTANTIATE_TEST_SUITE_P(Models, FiniteDifferences,
                         testing::Values("internlm2", "internlm2_tied", "internlm2_wide",
                                         "internlm1", "qwen2_tied"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace ink
