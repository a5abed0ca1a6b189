#include "tests/support/golden_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "launch/trainer/device_batch.h"
#include "tests/support/compare.h"

namespace ink {

Series train(Trainee& trainee, const Fixture& fixture) {
  Series run;
  for (int64_t step = 0; step < fixture.steps(); ++step) {
    const HostBatch batch = fixture.all(step);
    const StepResult result = trainee.step().run({&batch, 1}, fixture.trained(step), step + 1);
    run.losses.push_back(result.loss);
    run.norms.push_back(result.state.grad_norm);
    run.rates.push_back(result.state.lr);
  }
  return run;
}

void expect_series(const std::vector<double>& got, const nlohmann::json& want, double tolerance,
                   const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t t = 0; t < got.size(); ++t)
    EXPECT_NEAR(got[t], want[t].get<double>(), tolerance * std::abs(want[t].get<double>()))
        << what << " of step " << t;
}

double logits_distance(Trainee& trainee, const Golden& golden, const Fixture& fixture,
                       int64_t row) {
  const Scoped no_grad(trainee.runtime().grad_enabled, false);
  const Batch batch = to_device(trainee.runtime(), fixture.pack(0, {row}), 1.0, 0);
  return rel_frobenius(to_values(trainee.model().logits(batch, 0)),
                       golden.tensor(fmt::format("logits.row{}", row)));
}

double document_logits_distance(Trainee& trainee, const Golden& golden, int64_t length,
                                int64_t rope_length) {
  const Scoped no_grad(trainee.runtime().grad_enabled, false);
  const Values ids = golden.tensor(fmt::format("tokens.{}", length));
  HostBatch host{.tokens = {ids.begin(), ids.end()},
                 .cu_seqlens = {0, static_cast<int32_t>(length)},
                 .max_seqlen = static_cast<int32_t>(length)};
  host.labels.assign(ids.size(), -100);
  host.positions.resize(ids.size());
  std::iota(host.positions.begin(), host.positions.end(), 0);
  host.token_ids.resize(ids.size());
  std::iota(host.token_ids.begin(), host.token_ids.end(), 0);
  const Batch batch = to_device(trainee.runtime(), host, 1.0, 0);
  return rel_frobenius(to_values(trainee.model().logits(batch, rope_length)),
                       golden.tensor(fmt::format("logits.{}", length)));
}

void expect_bf16_gradients(const NamedValues& got, const Golden& golden) {
  const NamedValues want = golden.tensors("grad.");
  for (const char* mode : {"bf16", "autocast"}) {
    const nlohmann::json& torch = golden.expected()["bf16_error"][mode]["grad"];
    ASSERT_EQ(torch.size(), want.size()) << mode;
    for (const auto& [name, values] : want) {
      const double error = rel_frobenius(got.at(name), values);
      // The size of an error that few elements make is chance; autocast leaves norm weights in f32.
      if (mode == std::string_view("bf16") || values.size() >= 64) {
        EXPECT_LE(error, 2 * torch.at(name).get<double>()) << name << " beside " << mode;
      }
      EXPECT_LE(error, 0.08) << name;
      EXPECT_GT(error, 1e-5) << name << ": nothing was rounded";
    }
  }
}

}  // namespace ink
