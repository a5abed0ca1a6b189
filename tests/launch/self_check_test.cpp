// The self-check over ranks as threads, on a golden model: quiet where all is well, and loud for
// every bit that is not.
#include "launch/trainer/self_check.h"

#include <gtest/gtest.h>

#include "parallel/comm/self_group.h"
#include "tests/support/compare.h"
#include "tests/support/group_ranks.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

void flip_bit(const Tensor& tensor) {
  const int64_t middle = tensor.numel() / 2;
  reinterpret_cast<uint32_t&>(tensor.data<float>()[middle]) ^= 1u << 12;
}

const OptimizerSlot& some_slot(Trainee& trainee) { return trainee.optimizer().slots()[3]; }

// What is done to a rank on its way through a step.
struct Harm {
  std::function<void(Trainee&, int rank)> reduced;  // before the check looks at the gradients
  std::function<void(Trainee&, int rank)> looked;   // behind it, before the update
  std::function<void(Trainee&, int rank)> updated;
  bool reduce = true;  // false: a mutation, the ranks do not sum their gradients
};

struct Outcome {
  std::vector<std::string> errors;  // by rank; empty where nothing was found
  std::vector<SelfCheckRow> rows;   // of the last step
  NamedValues parameters;           // of rank 0
};

// Two steps, each rank on its share of the rows.
Outcome run(int ranks, const Harm& harm = {}, bool check = true) {
  const Golden golden("internlm2");
  const Fixture fixture;
  Outcome outcome;
  outcome.errors.resize(static_cast<size_t>(ranks));
  outcome.rows.resize(static_cast<size_t>(ranks));
  run_group(ranks, [&](ProcessGroup& group) {
    const auto rank = static_cast<size_t>(group.rank());
    const auto alone = make_self_group();
    Trainee trainee(golden, harm.reduce ? group : *alone);
    SelfCheck self_check(trainee.table(), trainee.optimizer(), group,
                         {.every = 1, .clip_norm = golden_recipe().clip_norm});
    const auto hurt = [&](const auto& how) {
      if (how) how(trainee, group.rank());
    };
    try {
      for (int64_t step = 1; step <= 2; ++step) {
        std::vector<int64_t> rows;
        for (int64_t r = group.rank(); r < fixture.rows(); r += ranks) rows.push_back(r);
        const HostBatch batch = fixture.pack(step - 1, rows);
        StepWork work{
            .micro_batches = {&batch, 1}, .trained = fixture.trained(step - 1), .step = step};
        work.reduced = [&] {
          hurt(harm.reduced);
          if (check) self_check.look_at_gradients();
          hurt(harm.looked);
        };
        trainee.step().start(work);
        const StepResult result = trainee.step().finish();
        hurt(harm.updated);
        if (check) outcome.rows[rank] = self_check.finish(step, result, {{"fact", "one"}});
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kNumerical);
      outcome.errors[rank] = error.line();
    }
    if (rank == 0) outcome.parameters = trainee.parameters();
  });
  return outcome;
}

void expect_found(const Outcome& outcome, const std::vector<std::string>& words) {
  for (const std::string& error : outcome.errors) {
    EXPECT_EQ(error, outcome.errors[0]) << "the ranks do not agree";
    for (const std::string& word : words)
      EXPECT_NE(error.find(word), std::string::npos) << word << " in " << error;
  }
}

TEST(SelfCheck, QuietWhereAllIsWellAndChangesNoBit) {
  const auto tensors = static_cast<int64_t>(Golden("internlm2").tensors("after10.param.").size());
  for (const int ranks : {1, 2, 4}) {
    const Outcome checked = run(ranks);
    for (const std::string& error : checked.errors) EXPECT_EQ(error, "");
    for (const SelfCheckRow& row : checked.rows) {
      EXPECT_EQ(row.step, 2);
      EXPECT_EQ(row.ranks, ranks);
      EXPECT_GT(row.grad_norm.value_or(0), 0.5) << "clipping is not active";
      EXPECT_NEAR(*row.recomputed, *row.grad_norm, 1e-12);
      // Gradients, parameters and two moments of all tensors, and the facts.
      EXPECT_EQ(row.compared, ranks == 1 ? 0 : 4 * tensors + 2);
    }
    EXPECT_EQ(checked.parameters, run(ranks, {}, false).parameters);
  }
}

TEST(SelfCheck, AFlippedBitIsNamedWithItsRanksAndHashes) {
  const std::vector<std::string> always = {"error[5]: step 1: ", "expected equal replicas, got ",
                                           " on ranks 0, 1 and 3, ", " on rank 2",
                                           "no self-check of this run has passed"};
  const Golden golden("internlm2");
  const auto alone = make_self_group();
  Trainee trainee(golden, *alone);
  const std::string name = some_slot(trainee).parameter->name;
  const auto expect_named = [&](const Harm& harm, const std::string& what) {
    std::vector<std::string> words = always;
    words.push_back(what + name);
    expect_found(run(4, harm), words);
  };
  const auto on_rank_2 = [](const std::function<void(const OptimizerSlot&)>& harm) {
    return [harm](Trainee& t, int rank) {
      if (rank == 2) harm(some_slot(t));
    };
  };
  expect_named({.reduced = on_rank_2([](const auto& s) { flip_bit(s.parameter->grad()); })},
               "gradient/");
  expect_named({.updated = on_rank_2([](const auto& s) { flip_bit(s.parameter->value()); })},
               "param/");
  expect_named({.updated = on_rank_2([](const auto& s) { flip_bit(s.m); })}, "exp_avg/");
  expect_named({.updated = on_rank_2([](const auto& s) { flip_bit(s.v); })}, "exp_avg_sq/");
}

// One rank's own memory is at fault: its norm is not that of its gradients.
TEST(SelfCheck, ANormThatIsNotThatOfTheGradientsIsFound) {
  for (const int ranks : {1, 2}) {
    const int bad = ranks - 1;
    const Harm harm{.looked = [bad](Trainee& t, int rank) {
      if (rank == bad) some_slot(t).parameter->grad().data<float>()[0] += 1.0f;
    }};
    expect_found(run(ranks, harm), {"error[5]: step 1: rank " + std::to_string(bad),
                                    "gradient norm: expected ", "clip factor"});
  }
}

// Mutation: without the sum over the ranks their gradients differ.
TEST(SelfCheck, AMissingReductionIsFound) {
  expect_found(run(2, {.reduce = false}), {"gradient/", "expected equal replicas"});
}

TEST(SelfCheck, IsDueAtTheFirstStepAndEverySoMany) {
  Runtime runtime;
  ParameterTable table;
  AdamW optimizer(runtime, table, {}, 10, 0);
  const auto alone = make_self_group();
  const SelfCheck every(table, optimizer, *alone, {.every = 4, .first_step = 6});
  for (int64_t step = 6; step <= 13; ++step)
    EXPECT_EQ(every.due(step), step == 6 || step == 8 || step == 12) << step;
  EXPECT_FALSE(SelfCheck(table, optimizer, *alone, {}).due(1));
}

}  // namespace
}  // namespace ink
