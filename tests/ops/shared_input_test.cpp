// One tensor that several linears read, as w1 and w3 read the normed residual: each product adds
// its part of the gradient to what is there, unless others hold that memory.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/autograd/backward.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linear.h"
#include "engine/ops/rms_norm.h"
#include "tests/support/compare.h"
#include "tests/support/kernel_calls.h"
#include "tests/support/op_case.h"

namespace ink {
namespace {

constexpr int64_t kT = 7, kI = 40;
constexpr float kEps = 1e-5f;

Values normed(const Values& x, const Values& w) {
  Values n(x.size());
  const size_t cols = w.size();
  for (size_t row = 0; row < x.size() / cols; ++row) {
    double squares = 0;
    for (size_t i = 0; i < cols; ++i) squares += x[row * cols + i] * x[row * cols + i];
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(cols) + double{kEps});
    for (size_t i = 0; i < cols; ++i) n[row * cols + i] = x[row * cols + i] * rstd * w[i];
  }
  return n;
}

// y = x W^T.
Values times(const Values& x, const Values& w, size_t inputs) {
  const size_t rows = x.size() / inputs, outputs = w.size() / inputs;
  Values y(rows * outputs);
  for (size_t t = 0; t < rows; ++t) {
    for (size_t o = 0; o < outputs; ++o) {
      for (size_t i = 0; i < inputs; ++i)
        y[t * outputs + o] += x[t * inputs + i] * w[o * inputs + i];
    }
  }
  return y;
}

// in = {x_TI, norm_I, w_OI...}: every weight reads the norm of x.
OpCase shared_case(const char* name, const std::vector<int64_t>& outputs) {
  OpCase row{.name = name,
             .inputs = {{.name = "x_TI", .shape = {kT, kI}},
                        {.name = "norm_I", .shape = {kI}, .role = Role::kParameter, .low = 0.5}},
             .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
               const Tensor n_TI = rms_norm(in[0], in[1], kEps);
               std::vector<Tensor> out;
               for (size_t i = 2; i < in.size(); ++i) out.push_back(linear(n_TI, in[i]));
               return out;
             },
             .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
               const Values n_TI = normed(in[0], in[1]);
               std::vector<Values> out;
               for (size_t i = 2; i < in.size(); ++i) out.push_back(times(n_TI, in[i], kI));
               return out;
             },
             .slots = {&linear_backward_input}};
  for (size_t i = 0; i < outputs.size(); ++i)
    row.inputs.push_back(
        {.name = fmt::format("w{}_OI", i), .shape = {outputs[i], kI}, .role = Role::kParameter});
  return row;
}

REGISTER_OP_CASE(shared_case("linear_shared_by_two", {50, 50}));
REGISTER_OP_CASE(shared_case("linear_shared_by_three", {33, 17, 64}));

Tensor matrix(Runtime& runtime, std::string_view label, int64_t rows, int64_t cols,
              DType dtype = DType::kF64) {
  return from_values(runtime, uniform_values(label, rows * cols, -1, 1), {rows, cols}, dtype);
}

// A place in the graph that passes its gradient on, so that the gradient waits at a node.
Tensor passed_on(const Tensor& x) {
  return record(from_values(x.runtime(), to_values(x), x.shape(), x.dtype()),
                {.op = "passed_on",
                 .inputs = {x},
                 .saved = {},
                 .handles = {},
                 .backward = [](Node&, Grads& dys) -> Grads { return {std::move(dys[0])}; },
                 .rematerialize = nullptr});
}

// x as a leaf, its copy in the graph, and linears that read that.
struct Shared {
  Shared(Runtime& runtime, int linears, DType dtype = DType::kF64)
      : x(make_leaf(matrix(runtime, "x", kT, kI, dtype), "x", dtype)), read(passed_on(x)) {
    for (int i = 0; i < linears; ++i) {
      const std::string name = fmt::format("w{}", i);
      weights.push_back(make_leaf(matrix(runtime, name, kI, kI, dtype), name, dtype));
      outputs.push_back(linear(read, weights.back()));
    }
  }
  // dx where every output has a gradient of ones.
  [[nodiscard]] Values want() const {
    Values dx(static_cast<size_t>(kT * kI));
    for (const Tensor& weight : weights) {
      const Values part = times(Values(kT * kI, 1.0), transposed(to_values(weight)), kI);
      for (size_t i = 0; i < dx.size(); ++i) dx[i] += part[i];
    }
    return dx;
  }
  [[nodiscard]] Grads ones() const {
    Grads seeds;
    for (const Tensor& output : outputs)
      seeds.push_back(
          from_values(output.runtime(), Values(kT * kI, 1.0), output.shape(), output.dtype()));
    return seeds;
  }
  static Values transposed(const Values& w) {
    Values t(w.size());
    for (size_t i = 0; i < kI; ++i) {
      for (size_t j = 0; j < kI; ++j) t[j * kI + i] = w[i * kI + j];
    }
    return t;
  }

  Tensor x, read;
  std::vector<Tensor> weights, outputs;
};

Values gradient(const Tensor& leaf) { return to_values(leaf_of(leaf)->grad); }

TEST(SharedInput, ProductsAddToEachOtherAndNoOtherKernelDoes) {
  for (const int linears : {1, 2, 3}) {
    Runtime runtime;
    const Shared shared(runtime, linears);
    const KernelCalls calls;
    backward(shared.outputs, shared.ones());
    EXPECT_EQ(calls.of(linear_backward_input), linears);
    EXPECT_EQ(calls.of(accumulate), 0);
    EXPECT_EQ(calls.of(cast), 0);
    EXPECT_LE(rel_frobenius(gradient(shared.x), shared.want()), 1e-13) << linears;
  }
}

// The gradient of `add` is one memory for both of its inputs; what a linear adds to one of them
// must not reach the other.
TEST(SharedInput, AGradientThatOthersHoldIsLeftAlone) {
  Runtime runtime;
  const Tensor other = make_leaf(matrix(runtime, "other", kT, kI), "other", DType::kF64);
  const Tensor waiting = passed_on(other);  // older than the linears: its gradient waits for them
  const Shared shared(runtime, 2);
  std::vector<Tensor> roots = shared.outputs;
  roots.push_back(add(shared.read, waiting));
  Grads seeds = shared.ones();
  seeds.push_back(from_values(runtime, Values(kT * kI, 1.0), {kT, kI}, DType::kF64));
  const KernelCalls calls;
  backward(roots, std::move(seeds));
  EXPECT_EQ(gradient(other), Values(kT * kI, 1.0));
  Values want = shared.want();
  for (double& value : want) value += 1;
  EXPECT_LE(rel_frobenius(gradient(shared.x), want), 1e-13);
  EXPECT_EQ(calls.of(accumulate), 1);  // of the second linear; the first adds to the sum of both
}

TEST(SharedInput, ASeedThatItsCallerKeepsIsLeftAlone) {
  Runtime runtime;
  const Shared shared(runtime, 1);
  const Tensor kept = from_values(runtime, Values(kT * kI, 1.0), {kT, kI}, DType::kF64);
  std::vector<Tensor> roots = shared.outputs;
  roots.push_back(shared.read);
  Grads seeds = shared.ones();
  seeds.push_back(kept);
  backward(roots, std::move(seeds));
  EXPECT_EQ(to_values(kept), Values(kT * kI, 1.0));
  Values want = shared.want();
  for (double& value : want) value += 1;
  EXPECT_LE(rel_frobenius(gradient(shared.x), want), 1e-13);
}

// Columns of a wider gradient, as a fused projection's would be.
TEST(SharedInput, AStridedGradientIsNotAddedToInPlace) {
  Runtime runtime;
  const Shared shared(runtime, 1);
  std::vector<Tensor> roots = shared.outputs;
  roots.push_back(shared.read);
  Grads seeds = shared.ones();
  seeds.push_back(strided_from_values(runtime, Values(kT * kI, 1.0), {kT, kI}, DType::kF64));
  backward(roots, std::move(seeds));
  Values want = shared.want();
  for (double& value : want) value += 1;
  EXPECT_LE(rel_frobenius(gradient(shared.x), want), 1e-13);
}

TEST(SharedInput, ALeafKeepsWhatItHasAndItsOwnDtype) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", kT, kI, DType::kBF16), "x", DType::kF32);
  const Tensor w = matrix(runtime, "w", kI, kI, DType::kBF16);
  for (int i = 0; i < 2; ++i) backward(sum(add(linear(x, w), linear(x, w))));
  EXPECT_EQ(leaf_of(x)->grad.dtype(), DType::kF32);
  Values want = times(Values(kT * kI, 1.0), Shared::transposed(to_values(w)), kI);
  for (double& value : want) value *= 4;
  EXPECT_LE(rel_frobenius(gradient(x), want), 4e-3);
}

TEST(SharedInput, DeferredWeightGradientsLeaveTheSumAsItIs) {
  Runtime runtime;
  const Shared now(runtime, 3, DType::kF32), later(runtime, 3, DType::kF32);
  backward(now.outputs, now.ones());
  DeferredGradients queue;
  {
    const Scoped guard(runtime.deferred, &queue);
    const KernelCalls calls;
    backward(later.outputs, later.ones());
    EXPECT_EQ(calls.of(accumulate), 0);
  }
  EXPECT_EQ(gradient(later.x), gradient(now.x));
  for (const auto& run : queue) run();
  for (size_t i = 0; i < now.weights.size(); ++i)
    EXPECT_EQ(gradient(later.weights[i]), gradient(now.weights[i]));
}

// A node that says it adds, but returns something else.
TEST(SharedInput, ASumThatIsLostIsNoticed) {
  Runtime runtime;
  const Shared shared(runtime, 1);
  const Tensor careless =
      record(from_values(runtime, to_values(shared.read), {kT, kI}, DType::kF64),
             {.op = "careless",
              .inputs = {shared.read},
              .saved = {},
              .handles = {},
              .backward = [](Node&, Grads& dys) -> Grads { return {dys[0]}; },
              .rematerialize = nullptr,
              .adds = true});
  const Tensor later = linear(shared.read, shared.weights[0]);
  Grads seeds = shared.ones();
  seeds.push_back(shared.ones()[0]);
  EXPECT_THROW(backward({careless, later}, std::move(seeds)), InternalError);
}

// One tensor in two places of a node that adds: each has its own gradient.
TEST(SharedInput, OneTensorTwiceInANodeThatAdds) {
  Runtime runtime;
  const Shared shared(runtime, 1);
  int given = 0;
  const auto both = [&given](Node& self, Grads& dys) -> Grads {
    Grads grads;
    for (Tensor& sum : self.sums) {
      given += sum.defined() ? 1 : 0;
      Tensor grad = sum.defined() ? std::move(sum) : zeros(dys[0].runtime(), {kT, kI}, DType::kF64);
      accumulate(Device::kCpu, dys[0], grad);
      grads.push_back(std::move(grad));
    }
    return grads;
  };
  const Tensor twice = record(from_values(runtime, to_values(shared.read), {kT, kI}, DType::kF64),
                              {.op = "twice",
                               .inputs = {shared.read, shared.read},
                               .saved = {},
                               .handles = {},
                               .backward = both,
                               .rematerialize = nullptr,
                               .adds = true});
  const Tensor later = linear(shared.read, shared.weights[0]);
  Grads seeds = shared.ones();
  seeds.push_back(shared.ones()[0]);
  backward({twice, later}, std::move(seeds));
  EXPECT_EQ(given, 1);
  Values want = shared.want();
  for (double& value : want) value += 2;
  EXPECT_LE(rel_frobenius(gradient(shared.x), want), 1e-13);
}

}  // namespace
}  // namespace ink
