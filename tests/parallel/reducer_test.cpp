// Gradient buckets: where gradients lie, what is summed, when reductions start.
#include "parallel/data_parallel/reducer.h"

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

#include "engine/autograd/backward.h"
#include "engine/nn/builder.h"
#include "engine/ops/elementwise.h"
#include "parallel/comm/self_group.h"
#include "tests/support/group_ranks.h"
#include "tests/support/late_group.h"
#include "tests/support/values.h"

namespace ink {
namespace {

// Two linear layers over one input and a norm that this rank's graph may leave out.
struct Toy {
  explicit Toy(Runtime& r, DType compute = DType::kF32, DType gradients = DType::kF32)
      : runtime(r), builder(table) {
    first = builder.linear("first", 4, 6, {});
    second = builder.linear("second", 6, 3, {.bias = true});
    unused = builder.norm("unused", 5, 1e-5f);
    Parameter tied = whole_parameter("tied.weight", {6, 4}, {});
    tied.tied_to = "first.weight";
    table.add(std::move(tied));
    Parameter frozen = whole_parameter("frozen.weight", {7}, {});
    frozen.frozen = true;
    table.add(std::move(frozen));
    table.materialize(runtime, compute, gradients);
    table.initialize(1);
  }
  void backward_of(int rank) {
    const Tensor x = from_values(runtime, normal_values(fmt::format("x {}", rank), 8), {2, 4},
                                 table.all().front()->value().dtype());
    backward(sum((*second)((*first)(x))));
  }
  Values grad(const char* name) const {
    const Tensor& grad = table.find(name)->grad();
    return to_values(grad.reshape({grad.numel()}));
  }

  Runtime& runtime;
  ParameterTable table;
  SerialBuilder builder;
  std::unique_ptr<Linear> first, second;
  std::unique_ptr<Norm> unused;
};

constexpr const char* kNames[] = {"first.weight", "second.weight", "second.bias"};
constexpr int64_t kElements = 24 + 18 + 3 + 5;

Values sum_over_ranks(const char* name, int ranks) {
  Values sum;
  for (int r = 0; r < ranks; ++r) {
    Runtime runtime;
    Toy toy(runtime);
    toy.backward_of(r);
    const Values grad = toy.grad(name);
    sum.resize(grad.size());
    for (size_t i = 0; i < grad.size(); ++i) sum[i] += grad[i];
  }
  return sum;
}

TEST(Reducer, SumsEveryGradientWhateverTheBuckets) {
  for (const int ranks : {2, 3, 4}) {
    for (const int64_t bucket_bytes : {1, 80, 1 << 20}) {
      for (const bool overlap : {true, false}) {
        run_group(ranks, [&](ProcessGroup& group) {
          Runtime runtime;
          Toy toy(runtime);
          Reducer reducer(runtime, toy.table, group,
                          {.bucket_bytes = bucket_bytes, .overlap = overlap});
          EXPECT_EQ(reducer.bytes_per_step(), kElements * 4);
          EXPECT_EQ(reducer.bucket_count(), bucket_bytes == 1 ? 4u : bucket_bytes == 80 ? 2u : 1u);
          for (int step = 0; step < 2; ++step) {
            reducer.arm();
            toy.backward_of(group.rank());
            reducer.finish();
            for (const char* name : kNames) {
              const Values got = toy.grad(name), want = sum_over_ranks(name, ranks);
              ASSERT_EQ(got.size(), want.size());
              for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5) << name;
            }
            EXPECT_EQ(toy.grad("unused.weight"), Values(5, 0.0)) << "nobody's gradient is zero";
            toy.table.clear_gradients();
          }
        });
      }
    }
  }
}

// Matrices in bf16 buckets, vectors in an f32 one behind them; the rule of the sum is that of bf16.
TEST(Reducer, Bf16GradientsHaveBucketsOfTheirOwn) {
  for (const int64_t bucket_bytes : {1, 1 << 20}) {
    run_group(2, [&](ProcessGroup& group) {
      Runtime runtime;
      Toy toy(runtime, DType::kBF16, DType::kBF16);
      Reducer reducer(runtime, toy.table, group, {.bucket_bytes = bucket_bytes});
      EXPECT_EQ(reducer.bytes_per_step(), (24 + 18) * 2 + (3 + 5) * 4);
      EXPECT_EQ(reducer.bucket_count(), bucket_bytes == 1 ? 4u : 2u);
      EXPECT_EQ(toy.table.find("first.weight")->grad().dtype(), DType::kBF16);
      EXPECT_EQ(toy.table.find("second.bias")->grad().dtype(), DType::kF32);
      reducer.arm();
      toy.backward_of(group.rank());
      reducer.finish();
      for (const char* name : kNames) {
        Values want;
        for (int rank : {0, 1}) {
          Runtime other;
          Toy alone(other, DType::kBF16, DType::kBF16);
          alone.backward_of(rank);
          const Values grad = alone.grad(name);
          want.resize(grad.size());
          for (size_t i = 0; i < grad.size(); ++i) want[i] += grad[i];
        }
        EXPECT_EQ(toy.grad(name), rounded(want, toy.table.find(name)->grad().dtype())) << name;
      }
    });
  }
}

// A tied parameter is its owner's gradient; a frozen one has none.
TEST(Reducer, TiedOnceAndFrozenNever) {
  run_group(2, [](ProcessGroup& group) {
    Runtime runtime;
    Toy toy(runtime);
    const Reducer reducer(runtime, toy.table, group);
    EXPECT_EQ(toy.table.find("tied.weight")->leaf(), toy.table.find("first.weight")->leaf());
    EXPECT_FALSE(toy.table.find("frozen.weight")->grad().defined());
  });
}

TEST(Reducer, ReductionsStartDuringBackwardOnlyWithOverlap) {
  for (const bool overlap : {true, false}) {
    run_group(2, [&](ProcessGroup& group) {
      Runtime runtime;
      Toy toy(runtime);
      Reducer reducer(runtime, toy.table, group, {.bucket_bytes = 1, .overlap = overlap});
      // In the reverse order of the table the unused norm comes first and never gets ready:
      // give it a gradient of its own.
      const Tensor x = from_values(runtime, normal_values("n", 10), {2, 5}, DType::kF32);
      reducer.arm();
      backward(sum((*toy.unused)({x, Tensor()}).n_TC));
      EXPECT_EQ(group.recorder().last().sequence, overlap ? 1 : 0);
      toy.backward_of(group.rank());
      EXPECT_EQ(group.recorder().last().sequence, overlap ? 4 : 0);
      reducer.finish();
      EXPECT_EQ(group.recorder().last().sequence, 4);
    });
  }
}

// Micro-batches before the last are only added up.
TEST(Reducer, AccumulationIsReducedOnce) {
  run_group(2, [](ProcessGroup& group) {
    Runtime runtime;
    Toy toy(runtime);
    Reducer reducer(runtime, toy.table, group, {.bucket_bytes = 1});
    toy.backward_of(group.rank());
    EXPECT_EQ(group.recorder().last().sequence, 0);
    reducer.arm();
    toy.backward_of(group.rank());
    reducer.finish();
    EXPECT_EQ(group.recorder().last().sequence, 4);
    const Values got = toy.grad("first.weight"), want = sum_over_ranks("first.weight", 2);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], 2 * want[i], 2e-5);
  });
}

// What a step holds after finish(), with one wait left out (0 = none).
std::map<std::string, Values> late_gradients(ProcessGroup& group, int64_t forget) {
  Runtime runtime;
  LateGroup late(group, {.seed = static_cast<uint64_t>(group.rank()), .forget = forget});
  Toy toy(runtime);
  Reducer reducer(runtime, toy.table, late, {.bucket_bytes = 1});
  reducer.arm();
  toy.backward_of(group.rank());
  reducer.finish();
  EXPECT_EQ(late.calls(), 4);
  std::map<std::string, Values> gradients;
  for (const char* name : kNames) gradients[name] = toy.grad(name);
  return gradients;
}

TEST(Reducer, ResultsMayArriveAtTheLastMoment) {
  run_group(3, [](ProcessGroup& group) {
    for (const auto& [name, got] : late_gradients(group, 0)) {
      const Values want = sum_over_ranks(name.c_str(), 3);
      for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5) << name;
    }
  });
}

// The comparison above sees every single wait that is left out.
TEST(ReducerMutations, AMissingWaitIsNoticed) {
  run_group(2, [](ProcessGroup& group) {
    const auto whole = late_gradients(group, 0);
    // The first bucket is that of the parameter whose gradient is zero on all ranks.
    for (int64_t call = 2; call <= 4; ++call)
      EXPECT_NE(late_gradients(group, call), whole) << "without the wait of call " << call;
  });
}

// A step that ends with an exception lets go of its buckets while a call is under way.
TEST(Reducer, MayBeDestroyedInTheMiddleOfAStep) {
  EXPECT_THROW(
      run_group(
          2,
          [](ProcessGroup& group) {
            Runtime runtime;
            LateGroup late(group, {.seed = 1});
            Toy toy(runtime);
            Reducer reducer(runtime, toy.table, late, {.bucket_bytes = 1});
            const Tensor x = from_values(runtime, normal_values("n", 10), {2, 5}, DType::kF32);
            reducer.arm();
            backward(sum((*toy.unused)({x, Tensor()}).n_TC));
            toy.backward_of(group.rank());
            throw std::runtime_error("a rank runs out of memory");
          }),
      std::exception);
}

TEST(Reducer, GroupOfOneDoesNothing) {
  Runtime runtime;
  Toy toy(runtime);
  const auto alone = make_self_group();
  Reducer reducer(runtime, toy.table, *alone);
  EXPECT_EQ(reducer.bucket_count(), 0u);
  for (int micro_batch = 0; micro_batch < 4; ++micro_batch) {
    if (micro_batch == 3) reducer.arm();
    toy.backward_of(0);
  }
  reducer.finish();
  EXPECT_EQ(alone->recorder().last().sequence, 0);
  const Values got = toy.grad("first.weight"), once = sum_over_ranks("first.weight", 1);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], 4 * once[i], 4e-5);
}

}  // namespace
}  // namespace ink
