// The training step on a card: micro-batches recorded as graphs, steps started before the one
// before is read, and the loss scale, all against the same step done plainly. On the host
// implementation also with streams that do their work as late as they may, which must not change a
// bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "engine/ops/attention.h"
#include "engine/tensor/cuda_backend.h"
#include "engine/tensor/out_of_memory.h"
#include "parallel/comm/self_group.h"
#include "tests/cuda/card.h"
#include "tests/support/trainee.h"

#ifdef INKSTONE_CUDA_ON_CPU_TEST
#include "tests/support/cuda_on_cpu/runtime_api.h"
#endif

namespace ink {
namespace {

#ifdef INKSTONE_CUDA_ON_CPU_TEST
class LateStreams {
 public:
  LateStreams() { cuda_on_cpu::set_streams(cuda_on_cpu::Streams::kLate); }
  ~LateStreams() { cuda_on_cpu::set_streams(cuda_on_cpu::Streams::kAtOnce); }
  LateStreams(const LateStreams&) = delete;
  LateStreams& operator=(const LateStreams&) = delete;
};
#endif

enum class Reading : uint8_t { kAtOnce, kLate };

struct Outcome {
  std::vector<double> losses, norms;
  NamedValues parameters;
  int64_t launches = 0;
};

class CudaTrainStep : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
    // A recording pads its documents: to cuDNN that is another problem, with other bits.
    attention_forward.choose(Device::kCuda, "flash_mma");
    attention_backward.choose(Device::kCuda, "flash_mma");
  }
  void TearDown() override {
    if (!has_backend(Device::kCuda)) return;
    attention_forward.choose(Device::kCuda, {});
    attention_backward.choose(Device::kCuda, {});
  }

  [[nodiscard]] TraineeOptions on_card(bool graphs) const {
    TraineeOptions options;
    options.device = Device::kCuda;
    options.graphs = graphs;
    options.max_length = graphs ? fixture_.length() : 0;
    return options;
  }
  // A row as one document, the fewest there can be.
  [[nodiscard]] HostBatch whole_row(int64_t row) const {
    HostBatch batch = fixture_.pack(0, {row});
    batch.max_seqlen = batch.cu_seqlens.back();
    batch.cu_seqlens = {0, batch.max_seqlen};
    return batch;
  }

  // Rows of different documents, with empty ones as if each had eight: of one kind to recordings.
  [[nodiscard]] HostBatch row_of_eight(int64_t step, int64_t row) const {
    HostBatch batch = fixture_.pack(step, {row});
    EXPECT_LE(batch.cu_seqlens.size(), 9U);
    batch.cu_seqlens.resize(9, batch.cu_seqlens.back());
    return batch;
  }
  [[nodiscard]] std::vector<HostBatch> micro_batches(int64_t step) const {
    return {row_of_eight(step, 0), row_of_eight(step, 1)};
  }

  [[nodiscard]] Outcome train(const TraineeOptions& options, Reading reading,
                              int64_t steps = 3) const {
    Trainee trainee(golden_, *alone_, options);
    Outcome outcome;
    const auto finish = [&] {
      const StepResult result = trainee.step().finish();
      outcome.losses.push_back(result.loss);
      outcome.norms.push_back(result.state.grad_norm);
    };
    for (int64_t step = 0; step < steps; ++step) {
      const std::vector<HostBatch> batches = micro_batches(step);
      trainee.step().start(
          {.micro_batches = batches, .trained = fixture_.trained(step), .step = step + 1});
      if (reading == Reading::kAtOnce || step > 0) finish();
    }
    if (reading == Reading::kLate) finish();
    EXPECT_EQ(trainee.step().take_note(), "");
    outcome.parameters = trainee.parameters();
    outcome.launches = trainee.step().graph_launches();
    return outcome;
  }

  static void expect_equal(const Outcome& got, const Outcome& want) {
    EXPECT_EQ(got.losses, want.losses);
    EXPECT_EQ(got.norms, want.norms);
    for (const auto& [name, values] : want.parameters)
      EXPECT_EQ(got.parameters.at(name), values) << name;
  }

  Golden golden_{"internlm2"};
  Fixture fixture_;
  std::unique_ptr<ProcessGroup> alone_ = make_self_group();
};

// Looked at by every wait of the host for the card.
class Waits final : public HostWaitGuard {
 public:
  explicit Waits(Runtime& runtime) : backend_(static_cast<CudaBackend&>(runtime.backend())) {
    backend_.add_guard(*this);
  }
  ~Waits() override { backend_.remove_guard(*this); }
  Waits(const Waits&) = delete;
  Waits& operator=(const Waits&) = delete;
  void look() override { ++count; }
  int64_t count = 0;

 private:
  CudaBackend& backend_;
};

TEST_F(CudaTrainStep, AStepIsIssuedWithoutAWait) {
  for (const bool graphs : {false, true}) {
    TraineeOptions options = graphs ? on_card(true) : on_card(false);
    Trainee trainee(golden_, *alone_, options);
    Waits waits(trainee.runtime());
    for (int64_t step = 0; step < 3; ++step) {
      const std::vector<HostBatch> batches = micro_batches(step);
      const int64_t before = waits.count;
      trainee.step().start(
          {.micro_batches = batches, .trained = fixture_.trained(step), .step = step + 1});
      EXPECT_EQ(waits.count, before) << "step " << step + 1 << (graphs ? ", recorded" : "");
      if (step == 0) continue;
      static_cast<void>(trainee.step().finish());
      EXPECT_GT(waits.count, before) << "nothing was counted";
    }
    static_cast<void>(trainee.step().finish());
  }
}

// Two kinds: the first micro-batch of a step, and the one that finds gradients. Both are seen in
// step 1, recorded and launched in step 2. Dropout draws by the step number on the device.
TEST_F(CudaTrainStep, RecordedMicroBatchesGiveTheSameBits) {
  TraineeOptions plain = on_card(false), graphs = on_card(true);
  plain.dropout = graphs.dropout = 0.25;
  const Outcome want = train(plain, Reading::kAtOnce);
  const Outcome got = train(graphs, Reading::kLate);
  expect_equal(got, want);
  EXPECT_EQ(want.launches, 0);
  EXPECT_EQ(got.launches, 2 * 2);
}

// bf16 weights, gradients and moments: the graphs add to the same gradients, which stay where they
// are, in their type.
TEST_F(CudaTrainStep, RecordingsOfBf16GradientsGiveTheSameBits) {
  TraineeOptions plain = on_card(false), graphs = on_card(true);
  for (TraineeOptions* options : {&plain, &graphs}) {
    options->compute = DType::kBF16;
    options->optim.state_dtype = options->optim.grad_dtype = StateDtype::kBf16;
  }
  const Outcome want = train(plain, Reading::kAtOnce);
  const Outcome got = train(graphs, Reading::kLate);
  expect_equal(got, want);
  EXPECT_EQ(got.launches, 2 * 2);
  TraineeOptions wide = graphs, cpu = plain;
  wide.optim.grad_dtype = StateDtype::kF32;
  cpu.device = Device::kCpu;
  for (const TraineeOptions& other : {wide, cpu}) {
    const Outcome beside = train(other, Reading::kAtOnce);
    for (size_t t = 0; t < want.losses.size(); ++t)
      EXPECT_NEAR(got.losses[t], beside.losses[t], 2e-3 * beside.losses[t]) << "step " << t + 1;
  }
}

// cuDNN sees the empty documents that fill a recording, and none where nothing is recorded.
TEST_F(CudaTrainStep, RecordingsByCudnnFollowTheOwnAttention) {
  const std::vector<std::string_view> labels = attention_forward.labels(Device::kCuda);
  if (std::ranges::find(labels, "cudnn") == labels.end()) GTEST_SKIP() << "no card with cuDNN";
  TraineeOptions options = on_card(true);
  options.compute = DType::kBF16;
  const Outcome want = train(options, Reading::kLate);
  attention_forward.choose(Device::kCuda, "cudnn");
  attention_backward.choose(Device::kCuda, "cudnn");
  for (const bool graphs : {false, true}) {
    options = on_card(graphs);
    options.compute = DType::kBF16;
    const Outcome got = train(options, Reading::kLate);
    for (size_t t = 0; t < want.losses.size(); ++t) {
      EXPECT_NEAR(got.losses[t], want.losses[t], 2e-3 * want.losses[t]) << "step " << t + 1;
      EXPECT_NEAR(got.norms[t], want.norms[t], 2e-2 * want.norms[t]) << "step " << t + 1;
    }
  }
  if (std::string_view(attention_forward.last_label(Device::kCuda)) != "cudnn")
    GTEST_SKIP() << "cuDNN does not take it on this card";
}

// Where nothing is freed between the steps: gradients lie outside of what graphs write over.
TEST_F(CudaTrainStep, GradientsAreThereBeforeTheFirstMicroBatch) {
  Trainee trainee(golden_, *alone_, on_card(true));
  std::vector<const void*> places;
  for (const auto& parameter : trainee.table().all()) {
    ASSERT_TRUE(parameter->grad().defined()) << parameter->name;
    places.push_back(parameter->grad().raw());
  }
  const HostBatch batch = fixture_.pack(0, {0});
  for (int64_t step = 1; step <= 3; ++step)
    static_cast<void>(trainee.step().run({&batch, 1}, batch.trained, step));
  for (size_t i = 0; i < places.size(); ++i)
    EXPECT_EQ(trainee.table().all()[i]->grad().raw(), places[i]);
}

// One document, and three or four: two recordings that leave each other alone.
TEST_F(CudaTrainStep, NumbersOfDocumentsHaveRecordingsOfTheirOwn) {
  const auto run = [&](bool graphs) {
    Trainee trainee(golden_, *alone_, on_card(graphs));
    std::vector<double> losses;
    for (int64_t step = 0; step < 8; ++step) {
      HostBatch batch = whole_row(0);
      const int32_t length = batch.max_seqlen;
      if (step % 4 == 1) batch.cu_seqlens = {0, length / 8, length / 3, length / 2, length};
      if (step % 4 == 3) batch.cu_seqlens = {0, length / 4, length / 2, length};
      losses.push_back(trainee.step().run({&batch, 1}, batch.trained, step + 1).loss);
    }
    return std::pair(losses, trainee.step().graph_launches());
  };
  const auto [want, none] = run(false);
  const auto [got, launches] = run(true);
  EXPECT_EQ(got, want);
  EXPECT_EQ(none, 0);
  EXPECT_EQ(launches, 8 - 2) << "the first of each runs as it comes";
}

#ifdef INKSTONE_CUDA_ON_CPU_TEST
TEST_F(CudaTrainStep, LateStreamsChangeNothing) {
  const Outcome want = train(on_card(false), Reading::kAtOnce);
  const LateStreams late;
  expect_equal(train(on_card(false), Reading::kLate), want);
  expect_equal(train(on_card(true), Reading::kLate), want);
}
#endif

TEST_F(CudaTrainStep, RecordingsSurviveFullRecompute) {
  TraineeOptions plain = on_card(false), graphs = on_card(true);
  plain.recompute = graphs.recompute = Recompute::kFull;
  plain.dropout = graphs.dropout = 0.25;
  const Outcome got = train(graphs, Reading::kLate);
  expect_equal(got, train(plain, Reading::kLate));
  EXPECT_GT(got.launches, 0);
}

// More documents, then another number of tokens.
TEST_F(CudaTrainStep, AnotherShapeIsRecordedAnew) {
  const auto run = [&](bool graphs) {
    Trainee trainee(golden_, *alone_, on_card(graphs));
    std::vector<double> losses;
    int64_t step = 0;
    const auto steps = [&](const HostBatch& batch, int count) {
      for (int i = 0; i < count; ++i)
        losses.push_back(trainee.step().run({&batch, 1}, batch.trained, ++step).loss);
    };
    steps(whole_row(3), 2);
    steps(fixture_.pack(0, {3}), 2);
    steps(fixture_.pack(0, {0, 1}), 3);
    return std::pair(losses, trainee.step().graph_launches());
  };
  const auto [want, none] = run(false);
  const auto [got, launches] = run(true);
  EXPECT_EQ(got, want);
  EXPECT_EQ(none, 0);
  EXPECT_GE(launches, 2);
}

// What runs between two launches and the launches leave each other alone, in memory of its own or
// in that of the recordings.
TEST_F(CudaTrainStep, WhatRunsBetweenLaunchesLeavesThemAlone) {
  enum class Between : uint8_t { kNothing, kForward, kEvaluation };
  const auto run = [&](Between between) {
    Trainee trainee(golden_, *alone_, on_card(true));
    std::vector<double> losses;
    for (int64_t step = 0; step < 3; ++step) {
      const HostBatch batch = row_of_eight(step, 0), other = row_of_eight(step, 2);
      trainee.step().run({&batch, 1}, batch.trained, step + 1);
      if (between == Between::kForward) losses.push_back(trainee.loss_sum(other));
      if (between == Between::kEvaluation) {
        const auto read = [&](int64_t) { return other; };
        const EvalResult result = trainee.step().evaluate(1, read, other.trained);
        losses.push_back(result.loss * static_cast<double>(result.trained));
      }
    }
    EXPECT_EQ(trainee.step().graph_launches(), 2);
    return std::pair(trainee.parameters(), losses);
  };
  const auto [want, none] = run(Between::kNothing);
  const auto [beside, losses] = run(Between::kForward);
  const auto [within, evaluated] = run(Between::kEvaluation);
  EXPECT_EQ(beside, want);
  EXPECT_EQ(within, want);
  ASSERT_EQ(losses.size(), evaluated.size());
  for (size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(losses[i], evaluated[i], 1e-12 * losses[i]);
}

// Evaluation of another number of documents leaves recordings alone.
TEST_F(CudaTrainStep, EvaluationOfMoreDocumentsLeavesRecordingsAlone) {
  const auto run = [&](bool evaluated) {
    Trainee trainee(golden_, *alone_, on_card(true));
    const HostBatch few = whole_row(3), many = fixture_.pack(0, {3});
    EXPECT_GT(many.cu_seqlens.size(), few.cu_seqlens.size() + 1) << "fits in what there is";
    for (int64_t step = 1; step <= 5; ++step) {
      trainee.step().run({&few, 1}, few.trained, step);
      if (!evaluated || step != 3) continue;
      const EvalResult result = trainee.step().evaluate(
          1, [&](int64_t) { return many; }, many.trained);
      const double want = trainee.loss_sum(many) / static_cast<double>(many.trained);
      EXPECT_NEAR(result.loss, want, 1e-12 * want);
    }
    return std::pair(trainee.parameters(), trainee.step().graph_launches());
  };
  const auto [want, launches] = run(false);
  const auto [got, launches_beside] = run(true);
  EXPECT_EQ(got, want);
  EXPECT_EQ(launches, 4);
  EXPECT_EQ(launches_beside, 4);
}

// The estimate of a run's memory knows training alone: evaluation fits in what that leaves.
TEST_F(CudaTrainStep, EvaluationTakesNoMemoryOfItsOwn) {
  Trainee trainee(golden_, *alone_, on_card(true));
  const HostBatch batch = fixture_.pack(0, {0, 1});
  for (int64_t step = 1; step <= 2; ++step)
    static_cast<void>(trainee.step().run({&batch, 1}, batch.trained, step));
  const MemoryReport trained = trainee.runtime().allocator().report();
  static_cast<void>(trainee.step().evaluate(
      1, [&](int64_t) { return batch; }, batch.trained));
  const MemoryReport evaluated = trainee.runtime().allocator().report();
  EXPECT_EQ(evaluated.reserved, trained.reserved);
  EXPECT_EQ(evaluated.total_peak, trained.total_peak);
  EXPECT_EQ(evaluated.total, trained.total) << "what stays would be overwritten";
}

// Overflow: nothing moves, the scale falls every second time; clean steps raise it again.
TEST_F(CudaTrainStep, HalfPrecisionSkipsBacksOffAndGrows) {
  for (const bool graphs : {false, true}) {
    TraineeOptions options = on_card(graphs);
    options.compute = DType::kF16;
    Trainee trainee(golden_, *alone_, options);
    StepState state = trainee.optimizer().state();
    EXPECT_EQ(state.loss_scale, 65536.0);
    state.loss_scale = 0x1p24;
    trainee.optimizer().set_state(state);
    const NamedValues start = trainee.parameters();
    const HostBatch batch = fixture_.pack(0, {0});
    int64_t step = 1;
    for (const double scale : {0x1p24, 0x1p23}) {
      const StepResult result = trainee.step().run({&batch, 1}, batch.trained, step++);
      EXPECT_EQ(result.state.skip, 1);
      EXPECT_EQ(result.state.loss_scale, scale);
      EXPECT_EQ(result.state.updates, 0);
      EXPECT_FALSE(result.bad_gradient.empty());
      EXPECT_EQ(trainee.parameters(), start);
    }
    state = trainee.optimizer().state();
    EXPECT_EQ(state.skipped, 2);
    state.loss_scale = 1024;
    state.clean_steps = 999;
    trainee.optimizer().set_state(state);
    const StepResult clean = trainee.step().run({&batch, 1}, batch.trained, step++);
    EXPECT_EQ(clean.state.skip, 0);
    EXPECT_EQ(clean.state.updates, 1);
    EXPECT_EQ(clean.state.loss_scale, 2048.0);
    EXPECT_NE(trainee.parameters(), start);
  }
}

TEST_F(CudaTrainStep, WhatCannotBeRecordedIsRefusedAndTheCardGoesOn) {
  Runtime runtime({}, make_backend(Device::kCuda));
  Tensor x = to_tensor(runtime, std::vector<float>{1, 2});
  const float seven = 7;
  EXPECT_THROW((void)runtime.backend().record(
                   [&] { runtime.backend().copy_from_host(x.raw(), &seven, sizeof seven); }),
               InternalError);
  EXPECT_THROW((void)runtime.backend().record([&] { (void)to_vector<float>(x); }), InternalError);
  EXPECT_THROW((void)runtime.backend().record(
                   [&] { (void)runtime.backend().read_later(x.raw(), x.bytes()); }),
               InternalError);
  Tensor y = empty_like(x);
  const auto graph = runtime.backend().record([&] { copy(y, x); });
  zero(y);
  EXPECT_EQ(to_vector<float>(y), (std::vector<float>{0, 0}));
  graph->launch();
  EXPECT_EQ(to_vector<float>(y), (std::vector<float>{1, 2}));
}

// Both kinds have run as they come; the first recording needs what they needed.
TEST_F(CudaTrainStep, MemoryThatRunsOutInARecordingIsNamed) {
  Trainee trainee(golden_, *alone_, on_card(true));
  const std::vector<HostBatch> batches = micro_batches(0);
  const auto step = [&](int64_t number) {
    static_cast<void>(trainee.step().run(batches, fixture_.trained(0), number));
  };
  step(1);
  Allocator& allocator = trainee.runtime().allocator();
  const MemoryReport report = allocator.report();
  allocator.set_limit((report.total + report.total_peak) / 2);
  try {
    step(2);
    ADD_FAILURE() << "half of the memory was enough";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.code(), ExitCode::kOutOfMemory);
    EXPECT_NE(std::string_view(error.what()).find("activations"), std::string_view::npos);
    EXPECT_GT(error.wanted(), 0);
  }
  EXPECT_EQ(trainee.step().graph_launches(), 0);
  EXPECT_EQ(trainee.step().take_note(), "");
  allocator.set_limit(0);
  EXPECT_FALSE(trainee.parameters().empty()) << "the card goes on";
}

#ifdef INKSTONE_CUDA_ON_CPU_TEST
// Micro-batches go on in the memory that they were to be recorded in.
TEST_F(CudaTrainStep, GraphsThatTheDriverRefusesCostNoMemory) {
  const auto run = [&](bool refused) {
    cuda_on_cpu::refuse_graphs(refused ? cudaErrorMemoryAllocation : cudaSuccess);
    Trainee trainee(golden_, *alone_, on_card(true));
    std::vector<int64_t> reserved;
    for (int64_t step = 0; step < 3; ++step) {
      const std::vector<HostBatch> batches = micro_batches(step);
      static_cast<void>(trainee.step().run(batches, fixture_.trained(step), step + 1));
      reserved.push_back(trainee.runtime().allocator().report().reserved);
    }
    cuda_on_cpu::refuse_graphs(cudaSuccess);
    EXPECT_EQ(trainee.step().graph_launches(), refused ? 0 : 4);
    EXPECT_EQ(trainee.step().take_note().find("not recorded") != std::string::npos, refused);
    return std::pair(trainee.parameters(), reserved);
  };
  const auto [want, recorded] = run(false);
  const auto [got, plain] = run(true);
  EXPECT_EQ(got, want);
  EXPECT_EQ(plain[2], plain[0]);
  EXPECT_LE(plain[2], recorded[2]);
}
#endif

// What the host does in the middle of a recording is done at every launch, at its place.
TEST_F(CudaTrainStep, InterludesAreDoneAtEveryLaunch) {
  Runtime runtime({}, make_backend(Device::kCuda));
  DeviceBackend& backend = runtime.backend();
  const Tensor x = to_tensor(runtime, std::vector<float>{1});
  Tensor before = empty_like(x), after = empty_like(x);
  std::vector<float> uploads;
  const auto upload = [&](float value) {
    uploads.push_back(value);
    backend.copy_from_host(x.raw(), &value, sizeof value);
  };
  float next = 2;
  const auto graph = backend.record([&] {
    copy(before, x);
    backend.interlude([&] { upload(next++); });
    backend.interlude([&] { upload(next++); });  // nothing of the card between the two
    copy(after, x);
  });
  EXPECT_TRUE(uploads.empty()) << "done while it was recorded";
  for (const float found : {1.0F, 3.0F}) {
    graph->launch();
    EXPECT_EQ(to_vector<float>(before), std::vector<float>{found});
    EXPECT_EQ(to_vector<float>(after), std::vector<float>{found + 2});
  }
  EXPECT_EQ(uploads, (std::vector<float>{2, 3, 4, 5}));
  backend.interlude([&] { upload(9); });
  EXPECT_EQ(to_vector<float>(x), std::vector<float>{9}) << "outside of a recording: at once";
}

// Larger than the staging ring, in pieces of it, and what is overwritten behind a late read.
TEST_F(CudaTrainStep, UploadsAndLateReadsKeepTheirBytes) {
#ifdef INKSTONE_CUDA_ON_CPU_TEST
  const LateStreams late;
#endif
  Runtime runtime({}, make_backend(Device::kCuda));
  std::vector<int32_t> large((size_t{9} << 20) + 5);  // in parts, the last one odd
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<int32_t>(i * 7);
  const Tensor there = to_tensor(runtime, large);
  std::vector<Tensor> small;
  for (int32_t i = 0; i < 3000; ++i) small.push_back(to_tensor(runtime, std::vector<int32_t>{i}));
  const auto read = runtime.backend().read_later(small[41].raw(), small[41].bytes());
  Tensor overwritten = small[41];
  zero(overwritten);
  EXPECT_EQ(to_vector<int32_t>(there), large);
  int32_t value = 0;
  std::memcpy(&value, read->wait().data(), sizeof value);
  EXPECT_EQ(value, 41);
  for (int32_t i = 0; i < 3000; i += 97) {
    EXPECT_EQ(to_vector<int32_t>(small[static_cast<size_t>(i)]), std::vector<int32_t>{i});
  }
  EXPECT_EQ(to_vector<int32_t>(overwritten), std::vector<int32_t>{0});
}

}  // namespace
}  // namespace ink
