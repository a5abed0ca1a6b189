// The graph itself: who gets which gradient, when leaves are ready, what is kept and for how long.
#include <gtest/gtest.h>

#include "engine/autograd/backward.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linear.h"
#include "engine/ops/rms_norm.h"
#include "engine/ops/swiglu.h"
#include "tests/support/compare.h"
#include "tests/support/kernel_calls.h"
#include "tests/support/values.h"

namespace ink {
namespace {

constexpr float kEps = 1e-5f;

Tensor matrix(Runtime& runtime, std::string_view label, int64_t rows, int64_t cols,
              DType dtype = DType::kF32) {
  return from_values(runtime, uniform_values(label, rows * cols, -1, 1), {rows, cols}, dtype);
}
Tensor parameter(Runtime& runtime, std::string_view label, int64_t count) {
  return make_leaf(
      from_values(runtime, uniform_values(label, count, 0.5, 1.5), {count}, DType::kF32),
      std::string(label));
}
Values gradient(const Tensor& leaf) { return to_values(leaf_of(leaf)->grad); }

TEST(Autograd, GradientsOfEveryUseOfATensorAreAdded) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 3, 4));
  const Tensor y = add(x, x);                  // 2 x
  const Tensor z = add(add(y, x), add(y, y));  // 7 x
  backward(sum(z));
  EXPECT_EQ(gradient(x), Values(12, 7.0));
}

TEST(Autograd, ALeafKeepsAddingUntilItsOwnerClearsIt) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 3, 4));
  backward(sum(x));
  backward(sum(add(x, x)));
  EXPECT_EQ(gradient(x), Values(12, 3.0));
  leaf_of(x)->has_grad = false;
  const void* memory = leaf_of(x)->grad.raw();
  backward(sum(x));
  EXPECT_EQ(gradient(x), Values(12, 1.0));
  EXPECT_EQ(leaf_of(x)->grad.raw(), memory);
}

TEST(Autograd, ALeafsOwnGradientDtypeHolds) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 3, 4, DType::kBF16), "x", DType::kF32);
  backward(sum(add(x, x)));
  backward(sum(x));
  EXPECT_EQ(leaf_of(x)->grad.dtype(), DType::kF32);
  EXPECT_EQ(gradient(x), Values(12, 3.0));
}

TEST(Autograd, AFrozenLeafGetsNoGradientAndNoNode) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 3, 4));
  leaf_of(x)->requires_grad = false;
  const Tensor y = add(x, x);
  EXPECT_EQ(y.grad_meta(), nullptr);
  const Tensor w = parameter(runtime, "w", 4);
  backward(sum(rms_norm(y, w, kEps)));
  EXPECT_FALSE(leaf_of(x)->grad.defined());
  EXPECT_TRUE(leaf_of(w)->grad.defined());
}

TEST(Autograd, NothingIsRecordedWithoutGradients) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 3, 4));
  const Tensor w = parameter(runtime, "w", 4);
  const Scoped guard(runtime.grad_enabled, false);
  EXPECT_EQ(rms_norm(add(x, x), w, kEps).grad_meta(), nullptr);
  EXPECT_EQ(leaf_of(w)->open_uses, 0);
}

TEST(Autograd, AParameterIsReadyOnceAfterItsLastUse) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 3, 4));
  const Tensor w = parameter(runtime, "w", 4);
  int ready = 0;
  Values at_ready;
  leaf_of(w)->on_grad_ready = [&](Leaf& leaf) {
    ++ready;
    at_ready = to_values(leaf.grad);
  };
  const Tensor loss = sum(rms_norm(rms_norm(rms_norm(x, w, kEps), w, kEps), w, kEps));
  EXPECT_EQ(leaf_of(w)->open_uses, 3);
  backward(loss);
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(leaf_of(w)->open_uses, 0);
  EXPECT_EQ(at_ready, gradient(w));  // complete when it was called
}

TEST(Autograd, OneGraphRunsBackwardOnce) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 3, 4));
  const Tensor loss = sum(add(x, x));
  backward(loss);
  EXPECT_THROW(backward(loss), InternalError);
}

TEST(Autograd, BackwardStartsAtAScalar) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 3, 4));
  EXPECT_THROW(backward(add(x, x)), InternalError);
}

TEST(Autograd, SeveralRootsWithTheirOwnSeeds) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 2, 2));
  const Tensor y = add(x, x), z = add(y, x);
  Grads seeds;
  seeds.push_back(from_values(runtime, {1, 2, 3, 4}, {2, 2}, DType::kF32));
  seeds.push_back(from_values(runtime, {10, 20, 30, 40}, {2, 2}, DType::kF32));
  backward({y, z}, std::move(seeds));
  EXPECT_EQ(gradient(x), (Values{32, 64, 96, 128}));
}

// A small block with a parameter used inside and outside of the segment.
struct Block {
  Tensor w1, w2;
  std::vector<Tensor> operator()(const std::vector<Tensor>& in) const {
    const Normed first = add_rms_norm(in[0], in[1], w1, kEps);
    const Tensor middle = swiglu(first.n_TC, first.h_TC);
    const Normed second = add_rms_norm(first.h_TC, middle, w2, kEps);
    return {second.h_TC, swiglu(second.n_TC, middle)};
  }
};

struct BlockGradients {
  Values loss, dx, ddelta, dw1, dw2;
  int64_t peak = 0;
  int ready = 0;
  friend bool operator==(const BlockGradients& a, const BlockGradients& b) {
    return a.loss == b.loss && a.dx == b.dx && a.ddelta == b.ddelta && a.dw1 == b.dw1 &&
           a.dw2 == b.dw2 && a.ready == b.ready;
  }
};

// A stack of blocks, each kept by the given policy; `nested` puts segments into segments.
BlockGradients run_blocks(Recompute policy, int blocks, int64_t rows, bool nested = false) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", rows, 64));
  const Tensor delta = make_leaf(matrix(runtime, "delta", rows, 64));
  const Block block{parameter(runtime, "w1", 64), parameter(runtime, "w2", 64)};
  BlockGradients result;
  leaf_of(block.w1)->on_grad_ready = [&](Leaf&) { ++result.ready; };
  runtime.recompute = policy;
  runtime.allocator().reset_peaks();
  Segment segment = block;
  if (nested)
    segment = [block](const std::vector<Tensor>& in) { return recompute(in, Segment(block)); };
  std::vector<Tensor> stream{x, delta};
  for (int i = 0; i < blocks; ++i)
    stream = policy == Recompute::kFull ? recompute(stream, segment) : block(stream);
  Tensor loss = sum(add(stream[0], stream[1]));
  stream.clear();
  result.loss = to_values(loss);
  backward(loss);
  result.peak = runtime.allocator().report().peak[static_cast<size_t>(MemoryTag::kActivations)];
  result.dx = gradient(x), result.ddelta = gradient(delta);
  result.dw1 = gradient(block.w1), result.dw2 = gradient(block.w2);
  EXPECT_EQ(leaf_of(block.w1)->open_uses, 0);
  return result;
}

TEST(Recompute, EveryPolicyGivesTheSameBits) {
  const BlockGradients kept = run_blocks(Recompute::kNone, 3, 8);
  EXPECT_EQ(kept.ready, 1);
  const BlockGradients selective = run_blocks(Recompute::kSelective, 3, 8);
  EXPECT_TRUE(selective == kept);
  for (const bool nested : {false, true}) {
    const BlockGradients full = run_blocks(Recompute::kFull, 3, 8, nested);
    EXPECT_EQ(full.loss, kept.loss);
    EXPECT_EQ(full.dx, kept.dx);
    EXPECT_EQ(full.ddelta, kept.ddelta);
    EXPECT_EQ(full.dw1, kept.dw1);
    EXPECT_EQ(full.dw2, kept.dw2);
  }
}

// Blocks of norms and SwiGLU alone: selective keeps two residual streams per block, full the
// block's two inputs.
TEST(Recompute, SelectiveAndFullNeedLessMemory) {
  const int64_t none = run_blocks(Recompute::kNone, 8, 1024).peak;
  const int64_t selective = run_blocks(Recompute::kSelective, 8, 1024).peak;
  const int64_t full = run_blocks(Recompute::kFull, 8, 1024).peak;
  EXPECT_LT(static_cast<double>(selective), 0.6 * static_cast<double>(none));
  EXPECT_LT(static_cast<double>(full), 0.8 * static_cast<double>(none));
}

// A tensor that `count` linears read. make(x, own): the tensor of an input and of weights.
struct Readers {
  using Make = Tensor (*)(const Tensor& x, const std::vector<Tensor>& own);
  Readers(Runtime& runtime, std::vector<Tensor> own_weights, Make make_tensor, int count)
      : x(make_leaf(matrix(runtime, "x", 16, 64))), own(std::move(own_weights)), make(make_tensor) {
    for (int i = 0; i < count; ++i) {
      const std::string name = fmt::format("w{}", i);
      weights.push_back(make_leaf(matrix(runtime, name, 64, 64), name));
    }
  }
  void backward() const {
    const Tensor read = make(add(x, x), own);
    Tensor y = linear(read, weights[0]);
    for (size_t i = 1; i < weights.size(); ++i) y = add(y, linear(read, weights[i]));
    ink::backward(sum(y));
  }
  [[nodiscard]] std::vector<Values> gradients() const {
    std::vector<Values> all{gradient(x)};
    for (const auto* leaves : {&own, &weights}) {
      for (const Tensor& leaf : *leaves) all.push_back(gradient(leaf));
    }
    return all;
  }
  Tensor x;
  std::vector<Tensor> own, weights;
  Make make;
};

// As w1 and w3, or wq, wk and wv, read a norm.
Readers readers_of_a_norm(Runtime& runtime, int count) {
  return {runtime,
          {parameter(runtime, "norm", 64)},
          [](const Tensor& x, const std::vector<Tensor>& own) { return rms_norm(x, own[0], kEps); },
          count};
}
// As w2 reads the product of gate and up.
Readers readers_of_a_product(Runtime& runtime, int count) {
  return {runtime,
          {make_leaf(matrix(runtime, "gate", 64, 64)), make_leaf(matrix(runtime, "up", 64, 64))},
          [](const Tensor& x, const std::vector<Tensor>& own) {
            return swiglu(linear(x, own[0]), linear(x, own[1]));
          },
          count};
}

// `calls` of the slot in a forward and backward pass that rebuilds, whose bits are those of one
// that keeps.
void expect_rebuilt(Readers (*make)(Runtime&, int), const KernelSlotBase& slot, int calls) {
  for (const int readers : {1, 2, 3}) {
    Runtime runtime;
    const Readers kept = make(runtime, readers), rebuilt = make(runtime, readers);
    kept.backward();
    const Scoped guard(runtime.recompute, Recompute::kSelective);
    const KernelCalls counted;
    rebuilt.backward();
    EXPECT_EQ(counted.of(slot), calls) << readers;
    EXPECT_EQ(rebuilt.gradients(), kept.gradients()) << readers;
  }
}

TEST(Recompute, ATensorThatSeveralReadIsRebuiltOnce) {
  expect_rebuilt(readers_of_a_norm, rms_norm_apply, 1);
}
TEST(Recompute, TheProductOfGateAndUpComesWithItsGradients) {
  expect_rebuilt(readers_of_a_product, swiglu_forward, 1);
}

int64_t activations(Runtime& runtime) {
  return runtime.allocator().report().in_use[static_cast<size_t>(MemoryTag::kActivations)];
}

// The weight gradients run when the producer's own backward is long over, which has left alone what
// they rebuild from; each frees what it holds.
void expect_rebuilt_later(Readers (*make)(Runtime&, int), const KernelSlotBase& slot) {
  Runtime runtime;
  const Readers now = make(runtime, 3), later = make(runtime, 3);
  now.backward();
  const int64_t before = activations(runtime);
  DeferredGradients queue;
  {
    const Scoped selective(runtime.recompute, Recompute::kSelective);
    const Scoped guard(runtime.deferred, &queue);
    later.backward();
  }
  EXPECT_GT(activations(runtime), before);
  const KernelCalls calls;
  EXPECT_EQ(calls.of(slot), 0);
  for (const auto& run : queue) run();
  EXPECT_EQ(calls.of(slot), 1);
  EXPECT_EQ(activations(runtime), before);  // and the queue is not cleared yet
  EXPECT_EQ(later.gradients(), now.gradients());
}

TEST(Recompute, DeferredWeightGradientsRebuildOnceToo) {
  expect_rebuilt_later(readers_of_a_norm, rms_norm_apply);
  expect_rebuilt_later(readers_of_a_product, swiglu_forward);
}

TEST(Recompute, ARebuiltTensorStaysUntilItsLastReaderHasIt) {
  Runtime runtime;
  runtime.recompute = Recompute::kSelective;
  const Tensor x = make_leaf(matrix(runtime, "x", 16, 64));
  const Tensor norm = parameter(runtime, "norm", 64);
  const auto two_readers = [&] {
    const Tensor n = rms_norm(x, norm, kEps);
    return std::pair{Saved(n), Saved(n)};
  };
  const int64_t size = 16 * 64 * 4, before = activations(runtime);
  {
    auto [first, second] = two_readers();
    const int64_t kept = activations(runtime);
    const void* memory = first.get().raw();
    EXPECT_EQ(activations(runtime), kept + size);
    EXPECT_EQ(first.get().raw(), memory);
    first = {};
    EXPECT_EQ(second.get().raw(), memory);
    EXPECT_EQ(activations(runtime), kept);
    EXPECT_EQ(to_values(second.get()).size(), 16u * 64u);  // the last one may ask again
  }
  EXPECT_EQ(activations(runtime), before);
  {
    auto [first, second] = two_readers();
    static_cast<void>(first.get());
    second = {};  // never read
    first = {};
    EXPECT_EQ(activations(runtime), before);
  }
}

TEST(Autograd, TheGraphIsFreedAfterBackward) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 32, 64));
  const Block block{parameter(runtime, "w1", 64), parameter(runtime, "w2", 64)};
  const auto in_use = [&] {
    return runtime.allocator().report().in_use[static_cast<size_t>(MemoryTag::kActivations)];
  };
  const int64_t before = in_use();
  for (const Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    runtime.recompute = policy;
    {
      std::vector<Tensor> stream{x, Tensor()};
      stream = policy == Recompute::kFull ? recompute(stream, Segment(block)) : block(stream);
      backward(sum(stream[1]));
    }
    leaf_of(x)->grad = {};
    EXPECT_EQ(in_use(), before);
  }
}

TEST(Autograd, SavedTensorsAreDroppedWhileBackwardRuns) {
  Runtime runtime;
  const Tensor x = make_leaf(matrix(runtime, "x", 256, 64));
  const Tensor loss = [&] {
    Tensor y = x;
    for (int i = 0; i < 10; ++i) y = swiglu(y, y);
    return sum(y);
  }();
  const int64_t kept = runtime.allocator().report().total;
  runtime.allocator().reset_peaks();
  backward(loss);
  // Ten outputs were kept. At the peak: those, and the gradients of one node.
  const int64_t one = 256 * 64 * 4;
  EXPECT_LE(runtime.allocator().report().total_peak, kept + 5 * one);
  EXPECT_LE(runtime.allocator().report().total, kept - 8 * one);
}

TEST(MemoryLimit, NamesTheTagTheTableAndTheWayOut) {
  Runtime runtime({.memory_limit = 1 << 20});
  const Tensor small(runtime, {1000}, DType::kF32, MemoryTag::kWeights);
  try {
    const Tensor big(runtime, {1 << 20}, DType::kF32, MemoryTag::kOptimizer);
    FAIL() << "4 MiB fitted into 1 MiB";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kOutOfMemory);
    EXPECT_EQ(static_cast<int>(error.code()), 7);
    EXPECT_EQ(error.place(), "memory_limit");
    const std::string text = error.what();
    EXPECT_NE(text.find("4.0 MiB more for optimizer do not fit"), std::string::npos) << text;
    EXPECT_NE(text.find("limit 1.0 MiB"), std::string::npos) << text;
    EXPECT_NE(text.find("weights"), std::string::npos) << text;
    EXPECT_NE(error.hint().find("train.recompute: full"), std::string::npos) << error.hint();
  }
}

}  // namespace
}  // namespace ink
