#include "engine/ops/linear.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/autograd/backward.h"
#include "engine/ops/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/op_case.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

// c[i, j] = sum over p of a[i, p] * b[j, p], operands with any strides.
Values product(const Values& a, int64_t a_outer, int64_t a_depth, const Values& b, int64_t b_outer,
               int64_t b_depth, int64_t m, int64_t n, int64_t k) {
  Values c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p)
        sum += a[static_cast<size_t>(i * a_outer + p * a_depth)] *
               b[static_cast<size_t>(j * b_outer + p * b_depth)];
      c[static_cast<size_t>(i * n + j)] = sum;
    }
  }
  return c;
}

// in = {x_TI, w_OI[, bias_O]}.
std::vector<Values> composed(const std::vector<Values>& in, int64_t inputs, int64_t outputs) {
  const int64_t rows = static_cast<int64_t>(in[0].size()) / inputs;
  Values y = product(in[0], inputs, 1, in[1], inputs, 1, rows, outputs, inputs);
  if (in.size() > 2) {
    for (size_t i = 0; i < y.size(); ++i) y[i] += in[2][i % static_cast<size_t>(outputs)];
  }
  return {y};
}

OpCase linear_case(const char* name, int64_t rows, int64_t inputs, int64_t outputs, bool bias) {
  OpCase row{
      .name = name,
      .inputs = {{.name = "x_TI", .shape = {rows, inputs}},
                 {.name = "w_OI", .shape = {outputs, inputs}, .role = Role::kParameter}},
      .run = [bias](const std::vector<Tensor>& in) -> std::vector<Tensor> {
        return {linear(in[0], in[1], bias ? in[2] : Tensor())};
      },
      .composed = [inputs, outputs](
                      const std::vector<Values>& in) { return composed(in, inputs, outputs); }};
  if (bias) row.inputs.push_back({.name = "bias_O", .shape = {outputs}, .role = Role::kParameter});
  return row;
}

OpCase with_slots(OpCase row, std::vector<KernelSlotBase*> slots) {
  row.slots = std::move(slots);
  return row;
}

// Few rows, so that the candidates made for them run too; one output is not a multiple of a vector.
REGISTER_OP_CASE(with_slots(linear_case("linear", 3, 45, 37, false),
                            {&linear_forward, &linear_backward_input, &linear_backward_weight}));
REGISTER_OP_CASE(with_slots(linear_case("linear_bias", 4, 33, 50, true),
                            {&linear_forward, &linear_backward_bias}));
// Several tiles in each dimension, with remainders.
REGISTER_OP_CASE(linear_case("linear_many_rows", 61, 70, 75, true));

OpCase bf16_gradient_case(OpCase row) {
  row.name += "_bf16_gradient";
  row.dtypes = {DType::kBF16};
  row.bf16_gradients = DType::kBF16;
  return row;
}
REGISTER_OP_CASE(bf16_gradient_case(linear_case("linear", 61, 70, 75, true)));
// The same weight twice: the second product adds to what the first has rounded.
REGISTER_OP_CASE(
    bf16_gradient_case({.name = "linear_twice",
                        .inputs = {{.name = "x_TI", .shape = {9, 40}},
                                   {.name = "w_OI", .shape = {40, 40}, .role = Role::kParameter}},
                        .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
                          return {linear(linear(in[0], in[1]), in[1])};
                        },
                        .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
                          return composed({composed(in, 40, 40)[0], in[1]}, 40, 40);
                        }}));

double tolerance(DType result) {
  switch (result) {
    case DType::kF64:
      return 1e-13;
    case DType::kF32:
      return 2e-6;
    case DType::kBF16:
      return 4e-3;
    default:
      return 1e-3;
  }
}

class Chosen {
 public:
  Chosen(KernelSlotBase& slot, std::string_view label) : slot_(slot) {
    slot_.choose(Device::kCpu, label);
  }
  ~Chosen() { slot_.choose(Device::kCpu, {}); }
  Chosen(const Chosen&) = delete;
  Chosen& operator=(const Chosen&) = delete;

 private:
  KernelSlotBase& slot_;
};

// Sizes that cross the blocks of every candidate (depth 384, 1024 columns), rows that are strided.
constexpr int64_t kT = 130, kI = 1100, kO = 85;

struct LinearData {
  explicit LinearData(Runtime& runtime, DType dtype) {
    x = strided_from_values(runtime, xs = data("x", kT * kI, dtype), {kT, kI}, dtype);
    w = strided_from_values(runtime, ws = data("w", kO * kI, dtype), {kO, kI}, dtype);
    dy = strided_from_values(runtime, dys = data("dy", kT * kO, dtype), {kT, kO}, dtype);
  }
  static Values data(const char* name, int64_t count, DType dtype) {
    return rounded(uniform_values(name, count, -1, 1), dtype);
  }
  Values xs, ws, dys;
  Tensor x, w, dy;
};

void check(const char* what, DType dtype, const KernelSlotBase& slot, const Tensor& got,
           const Values& want) {
  EXPECT_LE(rel_frobenius(to_values(got), want), tolerance(got.dtype()))
      << what << " in " << name_of(dtype) << " to " << name_of(got.dtype()) << " by "
      << slot.last_label(Device::kCpu);
}

TEST(LinearKernels, EveryCandidateForwardToItsOwnTypeAndToFloat) {
  Runtime runtime;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
    const LinearData d(runtime, dtype);
    const Tensor bias = from_values(runtime, Values(kO, 0.75), {kO}, dtype);
    Values want = product(d.xs, kI, 1, d.ws, kI, 1, kT, kO, kI);
    for (double& value : want) value += 0.75;
    for (const std::string_view label : linear_forward.labels(Device::kCpu)) {
      const Chosen chosen(linear_forward, label);
      for (const DType result : {dtype, DType::kF32}) {
        if (dtype == DType::kF64 && result != dtype) continue;
        Tensor y = strided_from_values(runtime, Values(want.size()), {kT, kO}, result);
        linear_forward(Device::kCpu, d.x, d.w, bias, y);
        check("y", dtype, linear_forward, y, want);
      }
    }
  }
}

TEST(LinearKernels, EveryCandidateForTheInputGradientInBothModes) {
  Runtime runtime;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
    const LinearData d(runtime, dtype);
    const Values once = product(d.dys, kO, 1, d.ws, 1, kI, kT, kI, kO);
    const Values before = LinearData::data("before", kT * kI, dtype);
    Values added = before;
    for (size_t i = 0; i < added.size(); ++i) added[i] += once[i];
    for (const std::string_view label : linear_backward_input.labels(Device::kCpu)) {
      const Chosen chosen(linear_backward_input, label);
      for (const auto place : {from_values, strided_from_values}) {
        Tensor dx = place(runtime, Values(once.size(), NAN), {kT, kI}, dtype);
        linear_backward_input(Device::kCpu, d.dy, d.w, WriteMode::kOverwrite, dx);
        check("dx overwritten", dtype, linear_backward_input, dx, once);
        dx = place(runtime, before, {kT, kI}, dtype);
        linear_backward_input(Device::kCpu, d.dy, d.w, WriteMode::kAccumulate, dx);
        check("dx accumulated", dtype, linear_backward_input, dx, added);
      }
    }
  }
}

// 2049 - 2048: a product that is rounded to 16 bits before it is added leaves nothing.
TEST(LinearKernels, AnInputGradientIsRoundedOnceWhereItIsAdded) {
  constexpr int64_t kDepth = 2049;
  Runtime runtime;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const Tensor dy = from_values(runtime, Values(3 * kDepth, 1.0), {3, kDepth}, dtype);
    const Tensor w = from_values(runtime, Values(kDepth * 5, 1.0), {kDepth, 5}, dtype);
    for (const std::string_view label : linear_backward_input.labels(Device::kCpu)) {
      const Chosen chosen(linear_backward_input, label);
      Tensor dx = from_values(runtime, Values(15, -2048.0), {3, 5}, dtype);
      linear_backward_input(Device::kCpu, dy, w, WriteMode::kAccumulate, dx);
      EXPECT_EQ(to_values(dx), Values(15, 1.0))
          << name_of(dtype) << " by " << linear_backward_input.last_label(Device::kCpu);
    }
  }
}

TEST(LinearKernels, AnInputGradientOverNoOutputsAndNoRows) {
  Runtime runtime;
  for (const std::string_view label : linear_backward_input.labels(Device::kCpu)) {
    const Chosen chosen(linear_backward_input, label);
    const Tensor dy(runtime, {2, 0}, DType::kF32), w(runtime, {0, 3}, DType::kF32);
    Tensor dx = from_values(runtime, Values(6, NAN), {2, 3}, DType::kF32);
    linear_backward_input(Device::kCpu, dy, w, WriteMode::kOverwrite, dx);
    EXPECT_EQ(to_values(dx), Values(6, 0.0)) << label;
    dx = from_values(runtime, Values(6, 2.0), {2, 3}, DType::kF32);
    linear_backward_input(Device::kCpu, dy, w, WriteMode::kAccumulate, dx);
    EXPECT_EQ(to_values(dx), Values(6, 2.0)) << label;
    const Tensor none(runtime, {0, 4}, DType::kF32), some(runtime, {4, 3}, DType::kF32);
    Tensor empty(runtime, {0, 3}, DType::kF32);
    EXPECT_NO_THROW(linear_backward_input(Device::kCpu, none, some, WriteMode::kAccumulate, empty));
  }
}

TEST(LinearKernels, EveryCandidateForTheWeightGradientInBothModes) {
  Runtime runtime;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
    const LinearData d(runtime, dtype);
    const Values once = product(d.dys, 1, kO, d.xs, 1, kI, kO, kI, kT);
    const Values before = uniform_values("before", kO * kI, -9, 9);
    for (const std::string_view label : linear_backward_weight.labels(Device::kCpu)) {
      const Chosen chosen(linear_backward_weight, label);
      for (const DType sum : {DType::kF64, DType::kF32, DType::kBF16}) {
        if ((dtype == DType::kF64) != (sum == DType::kF64)) continue;
        if (sum == DType::kBF16 && dtype != sum) continue;
        Tensor dw = from_values(runtime, Values(once.size(), NAN), {kO, kI}, sum);
        linear_backward_weight(Device::kCpu, d.dy, d.x, WriteMode::kOverwrite, dw);
        check("dw overwritten", dtype, linear_backward_weight, dw, once);
        dw = from_values(runtime, before, {kO, kI}, sum);
        Values want = rounded(before, sum);
        for (size_t i = 0; i < want.size(); ++i) want[i] += once[i];
        linear_backward_weight(Device::kCpu, d.dy, d.x, WriteMode::kAccumulate, dw);
        check("dw accumulated", dtype, linear_backward_weight, dw, want);
      }
    }
  }
}

TEST(LinearKernels, BiasGradientInBothModes) {
  Runtime runtime;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
    const LinearData d(runtime, dtype);
    Values want(kO);
    for (size_t i = 0; i < d.dys.size(); ++i) want[i % kO] += d.dys[i];
    for (const std::string_view label : linear_backward_bias.labels(Device::kCpu)) {
      const Chosen chosen(linear_backward_bias, label);
      Tensor db = from_values(runtime, Values(kO, NAN), {kO}, DType::kF32);
      linear_backward_bias(Device::kCpu, d.dy, WriteMode::kOverwrite, db);
      check("db overwritten", dtype, linear_backward_bias, db, want);
      linear_backward_bias(Device::kCpu, d.dy, WriteMode::kAccumulate, db);
      Values twice = want;
      for (double& value : twice) value *= 2;
      check("db accumulated", dtype, linear_backward_bias, db, twice);
    }
  }
}

TEST(LinearKernels, OneAndSeveralThreadsAgree) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    std::vector<Values> results;
    for (const int threads : {1, 2, 3}) {
      const ScopedThreads scope(threads);
      Runtime runtime;
      const LinearData d(runtime, dtype);
      Tensor dw = zeros(runtime, {kO, kI}, DType::kF32);
      linear_backward_weight(Device::kCpu, d.dy, d.x, WriteMode::kOverwrite, dw);
      results.push_back(to_values(dw));
    }
    EXPECT_LE(rel_frobenius(results[1], results[0]), 1e-6);
    EXPECT_LE(rel_frobenius(results[2], results[0]), 1e-6);
  }
}

TEST(LinearKernels, RowsOfOneLongGemmDoNotDependOnTheOthers) {
  Runtime runtime;
  const Chosen chosen(linear_forward, "plain");
  const int64_t rows = 2100, inputs = 390, outputs = 9;  // more rows than one block holds
  const Values xs = uniform_values("x", rows * inputs, -1, 1);
  const Values ws = uniform_values("w", outputs * inputs, -1, 1);
  const Tensor x = from_values(runtime, xs, {rows, inputs}, DType::kF64);
  const Tensor w = from_values(runtime, ws, {outputs, inputs}, DType::kF64);
  Tensor y(runtime, {rows, outputs}, DType::kF64), last(runtime, {7, outputs}, DType::kF64);
  linear_forward(Device::kCpu, x, w, {}, y);
  linear_forward(Device::kCpu, x.slice(rows - 7, 7), w, {}, last);
  EXPECT_EQ(to_values(y.slice(rows - 7, 7)), to_values(last));
}

struct TwoLayers {
  explicit TwoLayers(Runtime& runtime) {
    const auto leaf = [&](const char* name, const Shape& shape) {
      const Values values = uniform_values(name, shape.numel(), -1, 1);
      return make_leaf(from_values(runtime, values, shape, DType::kF32), name);
    };
    x = leaf("x", {6, 20});
    w = leaf("w", {20, 20});
    b = leaf("b", {20});
  }
  // The same weight twice.
  void backward() const { ink::backward(sum(linear(linear(x, w, b), w, b))); }
  Tensor x, w, b;
};

TEST(Linear, DeferredWeightGradientsAreEqual) {
  Runtime runtime;
  const TwoLayers now(runtime), later(runtime);
  now.backward();
  int ready = 0;
  leaf_of(later.w)->on_grad_ready = [&](Leaf&) { ++ready; };
  DeferredGradients queue;
  {
    const Scoped guard(runtime.deferred, &queue);
    later.backward();
  }
  ASSERT_EQ(queue.size(), 2u);
  EXPECT_EQ(ready, 0);
  EXPECT_EQ(leaf_of(later.w)->open_uses, 2);
  EXPECT_FALSE(leaf_of(later.w)->grad.defined());
  EXPECT_EQ(to_values(leaf_of(later.x)->grad), to_values(leaf_of(now.x)->grad));
  for (const auto& run : queue) run();
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(leaf_of(later.w)->open_uses, 0);
  EXPECT_EQ(to_values(leaf_of(later.w)->grad), to_values(leaf_of(now.w)->grad));
  EXPECT_EQ(to_values(leaf_of(later.b)->grad), to_values(leaf_of(now.b)->grad));
}

TEST(Linear, AFrozenWeightGetsNoGradientAndKeepsNoInput) {
  Runtime runtime;
  const TwoLayers layers(runtime);
  leaf_of(layers.w)->requires_grad = false;
  leaf_of(layers.b)->requires_grad = false;
  DeferredGradients queue;
  const Scoped guard(runtime.deferred, &queue);
  const Tensor y = linear(layers.x, layers.w, layers.b);
  EXPECT_TRUE(y.grad_meta()->node->saved.empty());
  backward(sum(y));
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(leaf_of(layers.w)->grad.defined());
  EXPECT_FALSE(leaf_of(layers.b)->grad.defined());
  EXPECT_TRUE(leaf_of(layers.x)->grad.defined());
}

TEST(Linear, AddsToTheGradientOfAnEarlierBackward) {
  Runtime runtime;
  const TwoLayers layers(runtime);
  layers.backward();
  Values twice = to_values(leaf_of(layers.w)->grad);
  for (double& value : twice) value *= 2;
  layers.backward();
  EXPECT_LE(rel_frobenius(to_values(leaf_of(layers.w)->grad), twice), 1e-6);
}

TEST(Linear, NamesTheValuesOfWrongShapes) {
  Runtime runtime;
  const Tensor x(runtime, {2, 5}, DType::kF32), w(runtime, {3, 4}, DType::kF32);
  try {
    (void)linear(x, w);
    FAIL() << "a weight of the wrong width was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("w_OI has I=4, x_TI has I=5"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace ink
