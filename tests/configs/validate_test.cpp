// Checks between keys, and the arithmetic of the global batch.
#include "configs/schema/validate.h"

#include <gtest/gtest.h>

#include "tests/configs/config_case.h"

namespace ink {
namespace {

LoadedRun smallest_run() {
  LoadedRun run =
      read_run(parse_yaml("model: {path: hf}\n"
                          "data: {train: [{path: a.txt}], max_length: 128}\n"
                          "train: {steps: 100}\n",
                          "run.yaml"));
  return run;
}

TEST(Validate, AcceptsTheSmallestRun) {
  const LoadedRun run = smallest_run();
  EXPECT_EQ(error_line([&] { validate(run.options, run.places); }), "");
}

// Its other switches ask nothing of other keys.
TEST(Validate, AcceptsCompatWithoutTheSamplerBesideAnything) {
  LoadedRun run = smallest_run();
  run.options.train.compat.word_form();
  run.options.train.micro_batch_size = 2;
  EXPECT_NE(error_line([&] { validate(run.options, run.places); }), "");
  run.options.train.compat.sampler = false;
  EXPECT_EQ(error_line([&] { validate(run.options, run.places); }), "");
}

TEST(Validate, RefusesWhatDoesNotFitTogether) {
  const std::pair<std::vector<std::string>, std::string> refusals[] = {
      {{"train.epochs=1"},
       "train.epochs: expected this or train.steps, got both\n"
       "hint: a value from a base is dropped by train.epochs: null"},
      {{"optim.warmup_ratio=0.1", "optim.warmup_steps=3"},
       "optim.warmup_ratio: expected this or optim.warmup_steps, got both\n"
       "hint: a value from a base is dropped by optim.warmup_ratio: null"},
      {{"optim.warmup_steps=101"}, "optim.warmup_steps: expected at most train.steps 100, got 101"},
      {{"optim.min_lr=1"}, "optim.min_lr: expected at most optim.lr 0.0003, got 1"},
      {{"optim.decay_steps=5"},
       "optim.decay_steps: expected optim.schedule: wsd beside it, got another schedule"},
      {{"optim.schedule=wsd", "optim.decay_steps=80", "optim.warmup_steps=30"},
       "optim.decay_steps: expected warm-up 30 + decay 80 <= train.steps 100"},
      {{"train.accumulation=2", "train.global_batch_size=8"},
       "train.accumulation: expected this or train.global_batch_size, got both\n"
       "hint: a value from a base is dropped by train.accumulation: null"},
      {{"train.batch_ramp={start: 1, increment: 1, every: 1}"},
       "train.batch_ramp: expected train.global_batch_size beside it, got none"},
      {{"train.eval_every=5"}, "train.eval_every: expected data.eval to say on what, got none"},
      {{"checkpoint.keep_best=eval_loss"},
       "checkpoint.keep_best: expected data.eval to say on what, got none"},
      {{"data.train.1.synthetic={}", "data.train.1.path=b"},
       "data.train.1: expected path or synthetic, got both"},
      {{"data.train.0.weight=1", "data.train.1.path=b"}, ""},
      {{"data.eval={fraction: 0.1, path: x}"},
       "data.eval.path: expected this or data.eval.fraction, got both\nhint: a value from a base "
       "is "
       "dropped by data.eval.path: null"},
      {{"data.eval={path: \"\"}"}, "data.eval.path: expected a file or folder, got an empty text"},
      {{"data.eval=[{name: a, path: x}, {name: a, path: y}]"},
       "data.eval.1.name: expected every name once, got a twice"},
      {{"data.packing=false", "train.global_batch_tokens=1280"},
       "train.global_batch_tokens: expected train.global_batch_size with data.packing: false, "
       "whose steps differ in tokens"},
      {{"train.compat=internevo", "train.micro_batch_size=2"},
       "train.micro_batch_size: expected 1, got 2, with train.compat.sampler"},
      {{"train.compat.sampler=true", "data.order=sequential"},
       "data.order: expected shuffled with train.compat.sampler"},
      {{"train.compat.sampler=true", "train.steps=null", "train.epochs=1"},
       "train.epochs: expected train.steps instead with train.compat.sampler"},
      {{"train.compat.sampler=true", "train.seed=4294967296"},
       "train.seed: expected at most 4294967295, got 4294967296, with train.compat.sampler"},
      {{"train.compat.sampler=true", "data.train.0.weight=1"},
       "data.train.0.weight: expected none with train.compat.sampler"},
      {{"train.compat.sampler=true", "train.global_batch_size=2",
        "train.batch_ramp={start: 1, increment: 1, every: 1}"},
       "train.batch_ramp: expected no ramp, which is not built yet, with train.compat.sampler"},
      {{"parallel.tensor=2"}, "parallel.tensor: 2 is not built yet; expected 1"},
      {{"parallel.zero=1"}, "parallel.zero: 1 is not built yet; expected 0"},
      {{"log.samples.every=5"}, "log.samples.prompts: expected at least one prompt, got none"},
  };
  const TemporaryFolder folder;
  const std::string path = folder.write("run.yaml",
                                        "model: {path: hf}\n"
                                        "data: {train: [{path: a.txt}], max_length: 128}\n"
                                        "train: {steps: 100}\n");
  for (const auto& [overrides, message] : refusals) {
    const std::string error =
        error_line([&, &overrides = overrides] { load_run(path, overrides); });
    if (message.empty()) {
      EXPECT_NE(error.find("data.train: expected a weight on every source or on none, got 1 of 2"),
                std::string::npos)
          << error;
    } else {
      EXPECT_EQ(error, "error[2]: command line: " + message) << overrides[0];
    }
  }
}

TEST(Validate, NamesTheLineOfTheKey) {
  const LoadedRun run = read_run(
      parse_yaml("data: {train: [{path: a}]}\ntrain:\n  steps: 1\n  epochs: 1\n", "run.yaml"));
  EXPECT_EQ(error_line([&] { validate(run.options, run.places); }).substr(0, 33),
            "error[2]: run.yaml:4:11: train.ep");
}

TEST(Validate, AModelFromScratchNeedsItsShape) {
  LoadedRun run = smallest_run();
  run.options.model.path.reset();
  EXPECT_EQ(error_line([&] { validate(run.options, run.places); }),
            "error[2]: run.yaml:1:8: model.family: expected a value for a model without "
            "model.path, got none");
}

TEST(PlanBatch, DerivesAccumulation) {
  RunOptions run = smallest_run().options;
  run.train.micro_batch_size = 2;
  run.train.global_batch_size = 24;
  EXPECT_EQ(plan_batch(run, 4).accumulation, 3);
  run.train.global_batch_size.reset();
  run.train.global_batch_tokens = 24 * 128;
  EXPECT_EQ(plan_batch(run, 4).global_batch_size, 24);
  run.train.global_batch_tokens.reset();
  EXPECT_EQ(plan_batch(run, 4).global_batch_size, 8);
  run.train.accumulation = 5;
  EXPECT_EQ(plan_batch(run, 4).global_batch_size, 40);
  EXPECT_EQ(plan_batch(run, 4).accumulation, 5);
}

TEST(PlanBatch, NamesTheNearestLegalValues) {
  RunOptions run = smallest_run().options;
  run.train.micro_batch_size = 4;
  run.train.global_batch_size = 30;
  EXPECT_EQ(error_line([&] { plan_batch(run, 2); }),
            "error[2]: train.global_batch_size: expected a multiple of "
            "micro_batch_size 4 * 2 data-parallel ranks = 8, got 30; nearest: 24, 32");
  run.train.global_batch_size = 3;
  EXPECT_NE(error_line([&] { plan_batch(run, 2); }).find("got 3; nearest: 8"), std::string::npos);
  run.train.global_batch_size.reset();
  run.train.global_batch_tokens = 1000;
  EXPECT_NE(error_line([&] {
              plan_batch(run, 2);
            }).find("expected a multiple of data.max_length 128, got 1000; nearest: 896, 1024"),
            std::string::npos);
  run.train.global_batch_tokens = 12 * 128;
  EXPECT_NE(error_line([&] {
              plan_batch(run, 2);
            }).find("* max_length 128 = 1024, got 1536; nearest: 1024, 2048"),
            std::string::npos);
}

TEST(PlanBatch, ChecksTheRamp) {
  RunOptions run = smallest_run().options;
  run.train.global_batch_size = 16;
  run.train.batch_ramp = BatchRamp{.start = 4, .increment = 4, .every = 10};
  EXPECT_EQ(error_line([&] { plan_batch(run, 4); }), "");
  EXPECT_NE(error_line([&] { plan_batch(run, 8); }).find("train.batch_ramp.start"),
            std::string::npos);
  run.train.batch_ramp->increment = 8;
  EXPECT_NE(error_line([&] { plan_batch(run, 4); })
                .find("expected start + n * increment = the global batch 16, got start 4 and "
                      "increment 8"),
            std::string::npos);
}

TEST(TotalSteps, RoundsEpochsUp) {
  RunOptions run = smallest_run().options;
  const BatchSizes batch{.global_batch_size = 8, .accumulation = 8};
  EXPECT_EQ(total_steps(run, 1000, batch), 100);
  run.train.steps.reset();
  run.train.epochs = 1.5;
  EXPECT_EQ(total_steps(run, 100, batch), 19);
  EXPECT_EQ(total_steps(run, 1, batch), 1);
}

}  // namespace
}  // namespace ink
