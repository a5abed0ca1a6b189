// The program on a card, as a user runs it: training, resume, generation, and what it says when a
// card is absent, full, too old, shared or broken. Without a card the same program runs on the host
// implementation (emulated_card.cpp).
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "tests/cli/guard_case.h"
#include "tests/cuda/card.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kTrain =
    "train: {steps: 4, global_batch_size: 2, device: cuda}\n"
    "checkpoint: {every: 2, keep: 9, async: false}";

json first_row(const Workplace& place, const std::string& run, const std::string& event) {
  std::istringstream lines(slurp(place / run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const json row = json::parse(line);
    if (row.value("event", "") == event) return row;
  }
  return {};
}

class CudaRun : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
    place_.write_run(kTrain);
  }
  [[nodiscard]] ChildResult run(const std::vector<std::string>& arguments,
                                const std::map<std::string, std::string>& variables = {}) const {
    ChildOptions options = place_.options();
    for (const auto& [name, value] : variables) options.variables[name] = value;
    return place_.run(arguments, options);
  }
  Workplace place_;
};

TEST_F(CudaRun, DoctorMeasuresTheCard) {
  const ChildResult doctor = run({"doctor", "--json"});
  ASSERT_EQ(doctor.code, 0) << doctor.err;
  const json said = json::parse(doctor.out);
  EXPECT_EQ(said["cuda"]["cards"].size(), device_platform(Device::kCuda).count) << doctor.out;
  EXPECT_GT(said["gemm_flops_per_s"]["bf16"].get<double>(), 0) << doctor.out;
}

TEST_F(CudaRun, TrainsLikeTheProcessor) {
  expect_done(run({"train", "run.yaml", "--out", "card"}));
  expect_done(run({"train", "run.yaml", "--out", "cpu", "train.device=cpu"}));
  const StepColumns a = step_columns(place_ / "card"), b = step_columns(place_ / "cpu");
  ASSERT_EQ(a.size(), 4u);
  for (const auto& [step, row] : a) {
    for (const char* name : {"tokens", "trained_tokens", "lr"})
      EXPECT_EQ(row[name], b.at(step)[name]) << step << " " << name;
    for (const char* name : {"loss", "grad_norm"})
      EXPECT_NEAR(row[name].get<double>(), b.at(step)[name].get<double>(),
                  1e-5 * row[name].get<double>())
          << step << " " << name;
  }
  EXPECT_NE(first_row(place_, "card", "run")["devices"].get<std::string>().find("sm_"),
            std::string::npos);
}

std::vector<std::string> lines_of(const Workplace& place, const std::string& run) {
  std::vector<std::string> lines;
  std::istringstream log(slurp(place / run / "log.txt"));
  for (std::string line; std::getline(log, line);)
    if (line.starts_with("tflops=")) lines.push_back(line);
  return lines;
}

double number_in(const std::string& line, const std::string& key) {
  const size_t at = line.find(" " + key + "=");
  return at == std::string::npos ? -1 : std::stod(line.substr(at + key.size() + 2));
}

// train.compat: divisors that change within a step under a recording, groups that are clipped
// alone, and what the log line gathers of every token.
TEST_F(CudaRun, InternEvosRulesAreThoseOfTheProcessor) {
  const auto train = [&](const std::string& out, const std::string& device) {
    expect_done(run({"train", "run.yaml", "--out", out, "train.device=" + device,
                     "train.compat={loss_mean: true, clip_per_group: true, log_line: true}"}));
  };
  train("card", "cuda");
  train("cpu", "cpu");
  const std::vector<std::string> card = lines_of(place_, "card"), cpu = lines_of(place_, "cpu");
  ASSERT_EQ(card.size(), 4u);
  ASSERT_EQ(cpu.size(), 4u);
  const std::vector<json> a = step_rows(place_ / "card"), b = step_rows(place_ / "cpu");
  for (size_t i = 0; i < card.size(); ++i) {
    EXPECT_NEAR(a[i]["loss"].get<double>(), b[i]["loss"].get<double>(), 1e-4);
    for (const char* group : {"0_decay", "1_no_decay"}) {
      const double want = b[i]["grad_norms"][group].get<double>();
      EXPECT_NEAR(a[i]["grad_norms"][group].get<double>(), want, 1e-4 * want) << group;
    }
    EXPECT_EQ(number_in(card[i], "tokens/synthetic"), number_in(cpu[i], "tokens/synthetic"));
    EXPECT_NEAR(number_in(card[i], "loss_from_metric"), number_in(cpu[i], "loss_from_metric"),
                2e-4);
    EXPECT_NEAR(number_in(card[i], "acc"), number_in(cpu[i], "acc"), 0.04);
  }
}

// Two runs, and one that was interrupted, are the same bit by bit: with masters, and with
// everything in bf16.
TEST_F(CudaRun, RepeatsAndResumesBitForBit) {
  const std::vector<std::vector<std::string>> kinds = {
      {}, {"optim.state_dtype=bf16", "optim.grad_dtype=bf16"}};
  for (const std::vector<std::string>& kind : kinds) {
    const std::string prefix = kind.empty() ? "masters-" : "bf16-";
    const auto train = [&](const std::string& out, std::vector<std::string> more) {
      more.insert(more.begin(), {"train", "run.yaml", "--out", prefix + out, "model.dtype=bf16",
                                 "train.deterministic=true"});
      more.insert(more.end(), kind.begin(), kind.end());
      expect_done(run(more));
    };
    train("whole", {});
    train("again", {});
    train("cut", {"--max-steps", "2"});
    train("cut", {"--resume", "latest"});
    const auto want = step_columns(place_ / (prefix + "whole"));
    ASSERT_EQ(want.size(), 4u);
    for (const char* other : {"again", "cut"}) {
      EXPECT_EQ(step_columns(place_ / (prefix + other)), want) << prefix << other;
      EXPECT_EQ(files_below(place_ / (prefix + other) / "step-4/state"),
                files_below(place_ / (prefix + "whole") / "step-4/state"))
          << prefix << other;
    }
  }
}

// Samples of 32 and 8 tokens: padded on the card, side by side on the processor.
TEST_F(CudaRun, SamplesOfManyLengthsLikeTheProcessor) {
  const auto train = [&](const std::string& device) {
    expect_done(run({"train", "run.yaml", "--out", device, "train.device=" + device,
                     "data.packing=false", "train.micro_batch_size=2"}));
    return step_rows(place_ / device);
  };
  const std::vector<json> card = train("cuda"), cpu = train("cpu");
  ASSERT_EQ(card.size(), 4u);
  ASSERT_EQ(cpu.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(card[i]["tokens"], cpu[i]["tokens"]);
    EXPECT_EQ(card[i]["trained_tokens"], cpu[i]["trained_tokens"]);
    EXPECT_EQ(card[i]["fill_rate"].get<double>(), card[i]["tokens"].get<double>() / 64);
    EXPECT_EQ(cpu[i]["fill_rate"], 1.0);
    for (const char* name : {"loss", "grad_norm"})
      EXPECT_NEAR(card[i][name].get<double>(), cpu[i][name].get<double>(),
                  1e-5 * cpu[i][name].get<double>())
          << i << " " << name;
  }
}

// A spike is read when the next step has been issued: back and past both is still the run that was
// told to skip what was passed over.
TEST_F(CudaRun, RollsBackToTheRunWithoutTheSpikes) {
  const auto train = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"train",
                                          "run.yaml",
                                          "--out",
                                          out,
                                          "train.steps=8",
                                          "train.deterministic=true",
                                          "checkpoint.every=1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_done(run(arguments));
  };
  const std::string guard =
      "train.loss_watchdog={factor: 1.00001, window: 1, action: rollback, max_rollbacks: 99}";
  train("back", {guard});
  json ranges = json::array();
  for (const json& row : event_rows(place_ / "back", "warning"))
    if (row.at("code") == "rollback") ranges.push_back(row.at("passed_over"));
  ASSERT_FALSE(ranges.empty());
  train("skipped", {"train.skip_steps=" + ranges.dump()});
  EXPECT_EQ(step_columns(place_ / "back"), step_columns(place_ / "skipped"));
  EXPECT_EQ(files_below(place_ / "back/step-8/state"),
            files_below(place_ / "skipped/step-8/state"));
  // Told to stop behind the first spike, it goes back before it saves, and the rest is the same
  // run.
  train("part", {guard, "--max-steps", std::to_string(ranges[0][0].get<int64_t>())});
  for (const json& row : event_rows(place_ / "part", "checkpoint"))
    EXPECT_FALSE(row.at("loss_spike").get<bool>()) << row;
  train("part", {guard, "--resume"});
  EXPECT_EQ(step_columns(place_ / "part"), step_columns(place_ / "skipped"));
  EXPECT_EQ(files_below(place_ / "part/step-8/state"),
            files_below(place_ / "skipped/step-8/state"));
}

// A stop that comes between a spike and its reading: the run goes back before it saves, to a save
// that is there already and now knows of it.
TEST_F(CudaRun, ASignalBehindASpikeRollsBackBeforeItSaves) {
  const PoisonedRun poisoned(place_);
  const auto arguments = [](const std::string& device, std::vector<std::string> more) {
    more.insert(more.end(), {"train.device=" + device, "train.loss_watchdog.action=rollback",
                             "checkpoint.every=100"});
    return PoisonedRun::arguments("run", more);
  };
  const auto rollbacks = [&] {
    return std::ranges::count_if(event_rows(place_ / "run", "warning"),
                                 [](const json& row) { return row.at("code") == "rollback"; });
  };
  const auto steps_of = [](const json& row) { return row.at("step").get<int64_t>(); };
  expect_done(run(arguments("cpu", {"--max-steps", "23"})));
  Child child(command_of(arguments("cuda", {"--resume", "faults.step_delay_ms=1500"})),
              place_.options());
  ASSERT_TRUE(wait_for_step(child, place_ / "run", PoisonedRun::kStep - 2));
  usleep(500'000);  // the spike is on its way, the step before it waits to be read
  child.signal(SIGTERM);
  const ChildResult stopped = child.wait();
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_EQ(steps_of(step_rows(place_ / "run").back()), PoisonedRun::kStep) << stopped.err;
  EXPECT_EQ(rollbacks(), 1) << stopped.err;
  EXPECT_EQ(steps_of(event_rows(place_ / "run", "end").back()), 23);
  EXPECT_TRUE(fs::exists(place_ / "run/step-23"));
  EXPECT_FALSE(fs::exists(place_ / "run/step-26"));
  expect_done(run(arguments("cuda", {"--resume", "--max-steps", "27"})));
  EXPECT_EQ(rollbacks(), 1) << "the spike came again";
  const std::vector<json> rows = step_rows(place_ / "run");
  ASSERT_EQ(steps_of(rows.back()), 27);
  EXPECT_EQ(rows[rows.size() - 2].at("skip_reason"), "skip_steps");
}

// Guards read what the card holds, and a veto waits for it: the decisions are the processor's.
TEST_F(CudaRun, GuardsDecideLikeTheProcessor) {
  const auto train = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"train", "run.yaml",      "--out",
                                          out,     "train.steps=8", "train.deterministic=true"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_done(run(arguments));
  };
  train("plain", {});
  train("checked", {"train.self_check_every=2"});
  EXPECT_EQ(step_columns(place_ / "checked"), step_columns(place_ / "plain"));
  const std::vector<json> checks = event_rows(place_ / "checked", "self_check");
  ASSERT_EQ(checks.size(), 5u);
  for (const json& row : checks)
    EXPECT_NEAR(row.at("recomputed").get<double>(), row.at("grad_norm").get<double>(),
                1e-6 * row.at("grad_norm").get<double>());
  // Every loss above the one before is a spike.
  const std::string skip = "train.loss_watchdog={factor: 1.00001, window: 1, action: skip}";
  train("card", {skip});
  train("cpu", {skip, "train.device=cpu"});
  std::vector<json> card, cpu;
  for (const json& row : step_rows(place_ / "card")) card.push_back(row.at("skip_reason"));
  for (const json& row : step_rows(place_ / "cpu")) cpu.push_back(row.at("skip_reason"));
  EXPECT_EQ(card, cpu);
  EXPECT_NE(std::ranges::count(card, "loss_spike"), 0);
}

// A checkpoint is a file: made on one device, used on the other.
TEST_F(CudaRun, GeneratesWhatTheProcessorGenerates) {
  expect_done(run({"train", "run.yaml", "--out", "card", "model.dtype=bf16"}));
  const auto generate = [&](const std::string& device, const std::string& model) {
    const ChildResult result =
        run({"generate", "--model", model, "--ids", "5 6 7", "--max-new-tokens", "6",
             "--temperature", "0", "--dtype", "fp32", "--json", "--device", device});
    expect_done(result);
    return result.code == 0 ? json::parse(result.out)["ids"] : json();
  };
  EXPECT_EQ(generate("cuda", "card/step-4"), generate("cpu", "card/step-4"));
  EXPECT_EQ(generate("cuda", "card/step-2"), generate("cpu", "card/step-2"));
  expect_done(run({"train", "run.yaml", "--out", "card", "--resume", "latest", "train.steps=6",
                   "train.device=cpu", "model.dtype=bf16"}));
  expect_done(run({"inspect", "card", "--verify"}));
}

TEST_F(CudaRun, MemoryThatRunsOutNamesTagsAndLevers) {
  const ChildResult result =
      run({"train", "run.yaml", "--out", "run", "--quiet", "data.max_length=64",
           "train.micro_batch_size=2", "train.memory_limit=700KiB"});
  EXPECT_EQ(result.code, 7) << result.err;
  for (const char* word : {"error[7]: memory_limit", "optimizer", "activations",
                           "hint: ", "train.recompute: full", "train.micro_batch_size: 1"})
    EXPECT_NE(result.err.find(word), std::string::npos) << word << " in " << result.err;
  const ChildResult hopeless =
      run({"train", "run.yaml", "--out", "run", "--quiet", "train.memory_limit=100KiB"});
  expect_error(hopeless, 7, {"weights, gradients and optimizer", "not enough"});
}

#ifdef INKSTONE_CUDA_ON_CPU_TEST

// A step is read when the next one has been issued, which took the emulated card as long, or before
// a save, when nothing is left to wait for.
TEST_F(CudaRun, AStepTakesItsOwnTime) {
  for (const char* streams : {"at once", "late"}) {
    expect_done(run({"train", "run.yaml", "--out", streams}, {{"EMULATED_STREAMS", streams}}));
    std::vector<double> seconds;
    for (const json& row : step_rows(place_ / streams))
      seconds.push_back(row.at("step_time").get<double>());
    ASSERT_EQ(seconds.size(), 4u);
    const auto [least, most] = std::ranges::minmax(seconds);
    EXPECT_LT(most, 50 * least) << testing::PrintToString(seconds);
  }
}

TEST_F(CudaRun, AutoTakesTheCardThatIsThere) {
  expect_done(run({"train", "run.yaml", "--out", "card", "train.device=auto", "train.steps=2"}));
  EXPECT_NE(first_row(place_, "card", "run")["devices"].get<std::string>().find("CUDA on CPU"),
            std::string::npos);
  const ChildResult none =
      run({"train", "run.yaml", "--out", "none", "train.device=auto", "train.steps=2"},
          {{"EMULATED_CARDS", "0"}});
  expect_done(none);
  EXPECT_NE(none.err.find("device auto: cpu, because there is no NVIDIA driver"), std::string::npos)
      << none.err;
}

int64_t times(const std::string& word, const std::string& text) {
  int64_t count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

// auto means the processor there, and nothing else fails.
TEST_F(CudaRun, ACardThatIsTooOldIsNotUsed) {
  const std::map<std::string, std::string> old = {{"EMULATED_CAPABILITY", "70"}};
  const std::string why = "CUDA on CPU has compute capability 7.0, 7.5 is the oldest";
  expect_error(run({"train", "run.yaml", "--out", "run"}, old), 2,
               {"train.device: expected a usable card: " + why, "hint: take the cpu"});
  expect_error(run({"generate", "--model", "x", "--ids", "1", "--device", "cuda"}, old), 2,
               {"--device: expected a usable card: " + why});
  const ChildResult taken =
      run({"train", "run.yaml", "--out", "run", "train.device=auto", "train.steps=2"}, old);
  expect_done(taken);
  EXPECT_NE(taken.err.find("device auto: cpu, because " + why), std::string::npos) << taken.err;
  const ChildResult doctor = run({"doctor"}, old);
  expect_done(doctor);
  EXPECT_NE(doctor.out.find("missing: a usable card: " + why), std::string::npos) << doctor.out;
}

// Only who asks for the card is refused.
TEST_F(CudaRun, TheDoctorTellsOfACardThatIsTaken) {
  const std::map<std::string, std::string> busy = {{"EMULATED_BUSY", "46"}};
  const ChildResult doctor = run({"doctor", "--json"}, busy);
  ASSERT_EQ(doctor.code, 0) << doctor.err;
  const json said = json::parse(doctor.out);
  EXPECT_EQ(said["cuda"]["cards"].size(), 1u) << doctor.out;
  EXPECT_TRUE(said["device"].get<std::string>().starts_with("cpu")) << doctor.out;
  EXPECT_NE(doctor.out.find("a usable card: [cudaSetDevice] cudaErrorDevicesUnavailable"),
            std::string::npos)
      << doctor.out;
  EXPECT_NE(doctor.out.find("another process has the card for itself"), std::string::npos);
  for (const std::vector<std::string>& asked :
       {std::vector<std::string>{"doctor", "--device", "cuda"},
        {"train", "run.yaml", "--out", "run", "train.device=auto"}})
    expect_error(run(asked, busy), 2, {"cudaErrorDevicesUnavailable", "another process"});
}

// A kernel that the run file names runs where it can; where not, the log says so.
TEST_F(CudaRun, AKernelThatCannotBeHadIsToldOnce) {
  const ChildResult result = run({"train", "run.yaml", "--out", "run", "train.steps=3",
                                  "kernels={attention_forward: flash_mma}"});
  expect_done(result);
  EXPECT_EQ(times("attention_forward: flash_mma was asked for and does not take what it got, plain",
                  result.err),
            1)
      << result.err;
}

TEST_F(CudaRun, NoCardIsOneClearError) {
  const ChildResult result = run({"train", "run.yaml", "--out", "run"}, {{"EMULATED_CARDS", "0"}});
  expect_error(result, 2, {"train.device", "driver", "CUDA 13.0", "install the NVIDIA driver"});
  EXPECT_FALSE(fs::exists(place_ / "run"));
  expect_error(run({"train", "run.yaml", "--out", "run"}, {{"EMULATED_PROBLEM", "802"}}), 2,
               {"train.device", "expected an NVIDIA card, got none", "nvidia-fabricmanager"});
  expect_error(run({"generate", "--model", "x", "--ids", "1", "--device", "cuda"},
                   {{"EMULATED_CARDS", "0"}}),
               2, {"--device", "driver"});
  const ChildResult planned = run({"train", "run.yaml", "--dry-run"}, {{"EMULATED_CARDS", "0"}});
  expect_done(planned);
  EXPECT_NE(planned.out.find("planned for a card"), std::string::npos) << planned.out;
}

TEST_F(CudaRun, ACardThatIsFullEndsWithSeven) {
  const ChildResult result =
      run({"train", "run.yaml", "--out", "run", "--quiet", "data.max_length=64",
           "train.micro_batch_size=8", "train.global_batch_size=8"},
          {{"EMULATED_MEMORY", "1600000"}});
  EXPECT_EQ(result.code, 7) << result.err;
  for (const char* word : {"error[7]: memory", "activations", "hint: "})
    EXPECT_NE(result.err.find(word), std::string::npos) << word << " in " << result.err;
}

// Code of kernels is loaded when they are first launched: the allocator may have left no room.
TEST_F(CudaRun, NoRoomForAKernelEndsWithSevenToo) {
  const ChildResult result =
      run({"train", "run.yaml", "--out", "run", "--quiet"}, {{"EMULATED_REFUSAL", "60"}});
  EXPECT_EQ(result.code, 7) << result.err;
  for (const char* word :
       {"error[7]: memory: [", "no room", "activations", "hint: by the estimate"})
    EXPECT_NE(result.err.find(word), std::string::npos) << word << " in " << result.err;
}

// Which kernel took attention, and why not the first one, is one line each.
TEST_F(CudaRun, WhatCudnnRefusesIsToldOnce) {
  const std::map<std::string, std::string> old = {
      {"EMULATED_CUDNN", "cuDNN 9.5.1 is older than 9.6.0"}};
  const ChildResult result = run({"train", "run.yaml", "--out", "run", "model.dtype=bf16",
                                  "train.eval_every=2", "data.eval={fraction: 0.2}"},
                                 old);
  expect_done(result);
  for (const char* slot : {"attention_forward", "attention_backward"}) {
    const std::string line = fmt::format(
        "{}: cudnn does not run here (cuDNN 9.5.1 is older than 9.6.0), plain does", slot);
    EXPECT_EQ(times(line, result.err), 1) << line << " in " << result.err;
    EXPECT_EQ(times(line, slurp(place_ / "run/log.txt")), 1) << line;
    EXPECT_EQ(times(std::string(slot) + " plain", result.err), 1) << result.err;
  }
  std::vector<std::string> codes;
  for (const json& row : event_rows(place_ / "run", "warning"))
    codes.push_back(row.at("code").get<std::string>());
  EXPECT_EQ(codes, std::vector<std::string>(2, "kernels"));
  const ChildResult doctor = run({"doctor"}, old);
  expect_done(doctor);
  EXPECT_EQ(times("attention_forward: cudnn does not run here (cuDNN 9.5.1", doctor.out), 1)
      << doctor.out;
}

TEST_F(CudaRun, NoRoomInCudnnEndsWithSevenToo) {
  const ChildResult result = run(
      {"train", "run.yaml", "--out", "run", "--quiet", "model.dtype=bf16"},
      {{"EMULATED_CUDNN", "cudnnCreate: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"}});
  EXPECT_EQ(result.code, 7) << result.err;
  for (const char* word : {"error[7]: memory: [cuDNN: cudnnCreate: CUDNN_STATUS", "no room",
                           "activations", "hint: by the estimate"})
    EXPECT_NE(result.err.find(word), std::string::npos) << word << " in " << result.err;
}

// A kernel that fails shows at the next wait: the message names what was launched last.
TEST_F(CudaRun, AFailedKernelIsNamed) {
  const ChildResult result = run({"train", "run.yaml", "--out", "run", "--quiet"},
                                 {{"EMULATED_FAILURE", "60"}, {"EMULATED_STREAMS", "late"}});
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_NE(result.err.find("error[1]: internal: [one of the ops launched last: "),
            std::string::npos)
      << result.err;
  EXPECT_NE(result.err.find("; INKSTONE_CUDA_SYNC=1 names it] cuda"), std::string::npos)
      << result.err;
}

TEST_F(CudaRun, CardsWithoutBf16ComputeInF16) {
  const ChildResult result = run({"train", "run.yaml", "--out", "run", "model.dtype=bf16"},
                                 {{"EMULATED_CAPABILITY", "75"}});
  expect_done(result);
  EXPECT_NE(result.err.find("has no bf16: computing in fp16 with loss scaling"), std::string::npos)
      << result.err;
  EXPECT_EQ(step_columns(place_ / "run").size(), 4u);
  // A newer card goes on with what was saved.
  const auto resume = [&](const std::string& dtype) {
    return run({"train", "run.yaml", "--out", "run", "--resume", "--quiet", "train.steps=5",
                "model.dtype=" + dtype});
  };
  expect_error(resume("bf16"), 3, {"expected bf16", "got f16", "hint: model.dtype: fp16"});
  expect_done(resume("fp16"));
  EXPECT_EQ(step_columns(place_ / "run").size(), 5u);
}

// Ranks that somebody starts one by one, each with the instance that it is shown.
class MigRanks : public CudaRun {
 protected:
  // busy: the rank whose card another process has for itself.
  [[nodiscard]] ChildResult run_ranks(
      const std::vector<std::string>& instances, size_t busy = SIZE_MAX,
      const std::map<std::string, std::string>& variables = {}) const {
    std::string folder = (place_ / "meeting-XXXXXX").string();
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    std::vector<std::unique_ptr<Child>> ranks;
    for (size_t rank = 0; rank < instances.size(); ++rank) {
      ChildOptions options = place_.options();
      options.variables["INKSTONE_RENDEZVOUS_DIR"] = folder;
      options.variables["INKSTONE_RANKS"] = std::to_string(instances.size());
      options.variables["INKSTONE_RANK"] = std::to_string(rank);
      options.variables["EMULATED_INSTANCE"] = instances[rank];
      if (rank == busy) options.variables["EMULATED_BUSY"] = "46";
      for (const auto& [name, value] : variables) options.variables[name] = value;
      ranks.push_back(
          std::make_unique<Child>(command_of({"train", "run.yaml", "--out", "run"}), options));
    }
    ChildResult all;
    for (const auto& rank : ranks) {
      const ChildResult one = rank->wait();
      all.code = std::max(all.code, one.code);
      all.err += one.err;
    }
    return all;
  }
};

TEST_F(MigRanks, OneRankTrainsOnAnInstance) {
  const ChildResult result = run_ranks({"0.1"});
  expect_done(result);
  EXPECT_NE(result.err.find("1 x CUDA on CPU MIG 1g.5gb, sm_90"), std::string::npos) << result.err;
}

// NCCL would refuse them, behind the loading of model and data.
TEST_F(MigRanks, TwoInstancesOfACardAreRefused) {
  expect_rank_error(run_ranks({"0.0", "0.1"}), 2,
                    {"train.device", "ranks 0 and 1 on MIG instances of the same one",
                     "CUDA on CPU MIG 1g.5gb, PCI 0000:10:00", "NCCL takes one rank per card"});
  expect_rank_error(run_ranks({"0.0", "0.0"}), 2,
                    {"train.device", "ranks 0 and 1 on the same one (CUDA on CPU MIG 1g.5gb)"});
}

// This program is built without NCCL: what it says next.
TEST_F(MigRanks, InstancesOfTwoCardsAreTwoCards) {
  const ChildResult result = run_ranks({"0.0", "1.0"});
  EXPECT_EQ(result.err.find("same one"), std::string::npos) << result.err;
  expect_rank_error(result, 2, {"NCCL"});
}

// One rank alone finds out: the others are told, and do not wait for it in NCCL.
TEST_F(MigRanks, ACardThatIsTakenEndsAllRanks) {
  expect_rank_error(run_ranks({"0.0", "1.0"}, 1), 2,
                    {"train.device: [cudaSetDevice] cudaErrorDevicesUnavailable",
                     "another process has the card for itself"});
}

// What cannot be pinned is refused, before NCCL is asked for anything.
TEST_F(MigRanks, SumsBySwitchesAreNotDeterministic) {
  std::string train = kTrain;
  place_.write_run(train.insert(train.find("device:"), "deterministic: true, "));
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"NCCL_NVLS_ENABLE", "1"}, {"NCCL_ALGO", "Ring,NVLSTree"}})
    expect_rank_error(run_ranks({"0.0", "1.0"}, SIZE_MAX, {{name, value}}), 2,
                      {name, "beside train.deterministic, got '" + value + "'"});
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"NCCL_NVLS_ENABLE", "0"}, {"NCCL_ALGO", "^NVLS,NVLSTree"}})
    expect_rank_error(run_ranks({"0.0", "1.0"}, SIZE_MAX, {{name, value}}), 2,
                      {"this build has no NCCL"});
}

#ifdef INKSTONE_MPI
TEST_F(CudaRun, FewerCardsThanRanksAreRefused) {
  ChildOptions options = place_.options();
  options.variables["EMULATED_CARDS"] = "1";
  const ChildResult one = run_child(launcher_of(2, {"train", "run.yaml", "--out", "run"}), options);
  expect_rank_error(one, 2, {"train.device", "ranks 0 and 1 on the same one", "1 cards"});
  options.variables["EMULATED_CARDS"] = "2";
  const ChildResult three =
      run_child(launcher_of(3, {"train", "run.yaml", "--out", "run"}), options);
  expect_rank_error(three, 2, {"train.device", "3 ranks", "2 cards"});
}
#endif
#endif

}  // namespace
}  // namespace ink
