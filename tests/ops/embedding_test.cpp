#include "engine/ops/embedding.h"

#include <gtest/gtest.h>

#include "engine/autograd/backward.h"
#include "engine/ops/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/op_case.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

constexpr int64_t kRows = 11, kCols = 37;

// Rows that come several times, rows that never come.
Values some_ids(const Shape& shape) {
  Values ids(static_cast<size_t>(shape.numel()));
  for (size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<double>((t * t + 3) % 7);
  return ids;
}

OpCase embedding_row() {
  return {.name = "embedding",
          .inputs = {{.name = "ids_T",
                      .shape = {13},
                      .role = Role::kConstant,
                      .values = some_ids,
                      .dtype = DType::kI32},
                     {.name = "w_VC", .shape = {kRows, kCols}, .role = Role::kParameter}},
          .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            return {embedding(in[0], in[1])};
          },
          .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
            Values y;
            for (const double id : in[0]) {
              const auto row = in[1].begin() + static_cast<int64_t>(id) * kCols;
              y.insert(y.end(), row, row + kCols);
            }
            return {y};
          },
          .slots = {&embedding_forward, &embedding_backward},
          .recompute = false};
}
REGISTER_OP_CASE(embedding_row());

OpCase with_bf16_gradient(OpCase row) {
  row.name += "_bf16_gradient";
  row.dtypes = {DType::kBF16};
  row.bf16_gradients = DType::kBF16;
  return row;
}
REGISTER_OP_CASE(with_bf16_gradient(embedding_row()));

Values table_gradient(int threads, WriteMode mode) {
  const ScopedThreads scope(threads);
  Runtime runtime;
  const int64_t tokens = 500, cols = 100;
  const Values values = uniform_values("dy", tokens * cols, -1, 1);
  const Tensor dy = strided_from_values(runtime, values, {tokens, cols}, DType::kF32);
  const Tensor ids = from_values(runtime, some_ids({tokens}), {tokens}, DType::kI32);
  Tensor dw = from_values(runtime, Values(static_cast<size_t>(kRows * cols), 0.5), {kRows, cols},
                          DType::kF32);
  embedding_backward(Device::kCpu, dy, ids, mode, dw);
  return to_values(dw);
}

TEST(Embedding, TheGradientDoesNotDependOnTheThreads) {
  for (const WriteMode mode : {WriteMode::kOverwrite, WriteMode::kAccumulate}) {
    const Values one = table_gradient(1, mode);
    EXPECT_EQ(table_gradient(2, mode), one);
    EXPECT_EQ(table_gradient(5, mode), one);
  }
}

TEST(Embedding, OverwritesOrAdds) {
  const Values over = table_gradient(2, WriteMode::kOverwrite);
  Values added = table_gradient(2, WriteMode::kAccumulate);
  for (double& value : added) value -= 0.5;
  EXPECT_LE(rel_frobenius(added, over), 1e-6);
  EXPECT_EQ(over.back(), 0.0) << "a row that no token names";
}

// 300 rows of ones: with a rounding after every row the sum would stay at 256.
TEST(Embedding, ABf16GradientIsRoundedOnce) {
  Runtime runtime;
  const Tensor dy = from_values(runtime, Values(300 * 5, 1.0), {300, 5}, DType::kBF16);
  const Tensor ids = from_values(runtime, Values(300, 2.0), {300}, DType::kI32);
  for (const std::string_view label : embedding_backward.labels(Device::kCpu)) {
    embedding_backward.choose(Device::kCpu, label);
    Tensor dw = from_values(runtime, Values(15, NAN), {3, 5}, DType::kBF16);
    embedding_backward(Device::kCpu, dy, ids, WriteMode::kOverwrite, dw);
    EXPECT_EQ(to_values(dw.slice(2, 1)), Values(5, 300.0)) << label;
    EXPECT_EQ(to_values(dw.slice(0, 2)), Values(10, 0.0)) << label;
    embedding_backward(Device::kCpu, dy, ids, WriteMode::kAccumulate, dw);
    EXPECT_EQ(to_values(dw.slice(2, 1)), Values(5, 600.0)) << label;
    embedding_backward.choose(Device::kCpu, {});
  }
}

TEST(Embedding, AFrozenTableIsNotRecorded) {
  Runtime runtime;
  const Tensor w =
      make_leaf(from_values(runtime, Values(20, 1.0), {4, 5}, DType::kF32), "embedding");
  leaf_of(w)->requires_grad = false;
  const Tensor ids = from_values(runtime, {0, 3}, {2}, DType::kI32);
  EXPECT_EQ(embedding(ids, w).grad_meta(), nullptr);
}

}  // namespace
}  // namespace ink
