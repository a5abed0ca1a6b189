// Activations of long contexts have more elements than 32 bits count (512K tokens of 14336 columns
// are 7.5e9). Few rows that lie as far apart make every kernel that reads or writes rows of them
// count as far, in 4.6 GB of which little is touched: each must give what it gives of rows side by
// side. What products and attention of a library make of it is compared within their rounding.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "engine/autograd/backward.h"
#include "engine/ops/attention.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/embedding.h"
#include "engine/ops/linear.h"
#include "engine/ops/rms_norm.h"
#include "engine/ops/rope.h"
#include "engine/ops/swiglu.h"
#include "tests/cuda/card.h"
#include "tests/support/compare.h"
#include "tests/support/values.h"

namespace ink {
namespace {

constexpr DType kType = DType::kBF16;
constexpr int64_t kRows = 34, kDistance = (int64_t{1} << 26) + 64;
static_assert((kRows - 2) * kDistance > (int64_t{1} << 31), "two rows are beyond 32 bits");

// Makes operands of kRows rows: side by side, or as columns of one matrix whose rows are far apart.
class Rows {
 public:
  Rows(Runtime& runtime, Tensor far) : runtime_(runtime), far_(std::move(far)) {}

  [[nodiscard]] Runtime& runtime() const { return runtime_; }
  [[nodiscard]] Tensor input(const std::string& label, int64_t cols) {
    return place(rounded(normal_values(label, kRows * cols), kType), cols);
  }
  [[nodiscard]] Tensor output(int64_t cols) {
    return place(Values(static_cast<size_t>(kRows * cols), std::nan("")), cols);
  }
  // In f32, small, and never far.
  [[nodiscard]] Tensor vector(const std::string& label, int64_t count) const {
    return from_values(runtime_, rounded(uniform_values(label, count, 0.5, 1.5), DType::kF32),
                       {count}, DType::kF32);
  }
  [[nodiscard]] Tensor matrix(const std::string& label, int64_t rows, int64_t cols) const {
    return from_values(runtime_, rounded(normal_values(label, rows * cols), kType), {rows, cols},
                       kType);
  }
  [[nodiscard]] Tensor nothing(const Shape& shape, DType dtype) const {
    return from_values(runtime_, Values(static_cast<size_t>(shape.numel()), std::nan("")), shape,
                       dtype);
  }

 private:
  Tensor place(const Values& values, int64_t cols) {
    const Tensor near = from_values(runtime_, values, {kRows, cols}, kType);
    if (!far_.defined()) return near;
    const Tensor view = far_.columns(next_, cols);
    next_ += (cols + 63) / 64 * 64;
    for (int64_t r = 0; r < kRows; ++r) {
      Tensor to = view.slice(r, 1);
      copy(to, near.slice(r, 1));
    }
    return view;
  }

  Runtime& runtime_;
  Tensor far_;  // undefined: side by side
  int64_t next_ = 0;
};

Values row_by_row(const Tensor& tensor) {
  if (tensor.rank() < 2) return to_values(tensor);
  Values values;
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    const Values row = to_values(tensor.slice(r, 1));
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

class CudaFarRows : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
    runtime_ = std::make_unique<Runtime>(RuntimeOptions{}, make_backend(Device::kCuda));
    far_ = Tensor(*runtime_, {kRows, kDistance}, kType);
  }

  void expect_near(const std::string& what, double tolerance,
                   const std::function<std::vector<Tensor>(Rows&)>& run) {
    Rows near(*runtime_, {}), far(*runtime_, far_);
    const std::vector<Tensor> want = run(near), got = run(far);
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_LE(rel_frobenius(row_by_row(got[i]), row_by_row(want[i])), tolerance)
          << what << ", output " << i;
  }
  void expect_same(const std::string& what, const std::function<std::vector<Tensor>(Rows&)>& run) {
    expect_near(what, 0, run);
  }

  std::unique_ptr<Runtime> runtime_;
  Tensor far_;
};

constexpr Device kCard = Device::kCuda;
constexpr int64_t kCols = 128;

TEST_F(CudaFarRows, Elementwise) {
  expect_same("add, accumulate, cast", [](Rows& rows) -> std::vector<Tensor> {
    const Tensor a = rows.input("a", kCols), b = rows.input("b", kCols);
    Tensor y = rows.output(kCols), into = rows.input("into", kCols), same = rows.output(kCols);
    Tensor wide = rows.nothing({kRows, kCols}, DType::kF32);
    add_forward(kCard, a, b, y);
    accumulate(kCard, a, into);
    cast(kCard, a, wide);
    cast(kCard, wide, same);
    return {y, into, wide, same};
  });
  expect_same("sums", [](Rows& rows) -> std::vector<Tensor> {
    const Tensor x = rows.input("x", kCols);
    Tensor y = rows.nothing({}, DType::kF32), wide = rows.output(kCols);
    sum_forward(kCard, x, y);
    broadcast_scalar(kCard, y, wide);
    return {y, wide};
  });
  expect_same("dropout", [](Rows& rows) -> std::vector<Tensor> {
    std::vector<int64_t> ids(kRows);
    std::iota(ids.begin(), ids.end(), 5);
    Tensor y = rows.output(kCols);
    dropout_apply(kCard, rows.input("x", kCols), to_tensor<int64_t>(rows.runtime(), ids), 0.5f,
                  {.key = {1, 2}, .step = 3}, y);
    return {y};
  });
  expect_same("swiglu", [](Rows& rows) -> std::vector<Tensor> {
    const Tensor gate = rows.input("gate", kCols), up = rows.input("up", kCols);
    const Tensor dy = rows.input("dy", kCols);
    Tensor y = rows.output(kCols), again = rows.output(kCols);
    Tensor dgate = rows.output(kCols), dup = rows.output(kCols);
    swiglu_forward(kCard, gate, up, y);
    swiglu_backward(kCard, dy, gate, up, dgate, dup, again);
    return {y, dgate, dup, again};
  });
}

TEST_F(CudaFarRows, Norms) {
  expect_same("forward", [](Rows& rows) -> std::vector<Tensor> {
    const Tensor x = rows.input("x", kCols), delta = rows.input("delta", kCols);
    const Tensor w = rows.vector("w", kCols);
    Tensor n = rows.output(kCols), h = rows.output(kCols), sum = rows.output(kCols);
    Tensor again = rows.output(kCols), rstd = rows.nothing({kRows}, DType::kF32);
    rms_norm_forward(kCard, x, w, 1e-5f, n, rstd);
    add_rms_norm_forward(kCard, x, delta, w, 1e-5f, h, sum, rstd);
    rms_norm_apply(kCard, h, w, rstd, again);
    return {n, h, sum, rstd, again};
  });
  expect_same("backward", [](Rows& rows) -> std::vector<Tensor> {
    const Tensor dn = rows.input("dn", kCols), dh = rows.input("dh", kCols);
    const Tensor h = rows.input("h", kCols), w = rows.vector("w", kCols);
    const Tensor rstd = rows.vector("rstd", kRows);
    Tensor dx = rows.output(kCols), both = rows.output(kCols);
    Tensor dw = rows.nothing({kCols}, DType::kF32), alone = rows.nothing({kCols}, DType::kF32);
    rms_norm_backward_input(kCard, dn, dh, h, w, rstd, dx);
    rms_norm_backward_weight(kCard, dn, h, rstd, WriteMode::kOverwrite, alone);
    rms_norm_backward(kCard, dn, dh, h, w, rstd, WriteMode::kOverwrite, dw, both);
    return {dx, both, dw, alone};
  });
}

TEST_F(CudaFarRows, RotationsAndEmbedding) {
  expect_same("rope", [](Rows& rows) -> std::vector<Tensor> {
    constexpr int64_t kDim = 64;
    std::vector<int32_t> positions(kRows);
    std::iota(positions.begin(), positions.end(), 500000);
    const Tensor table = rope_table(to_tensor(rows.runtime(), positions), kDim, {.theta = 1e6});
    Tensor turned = rows.input("x", 2 * kDim), joined = rows.output(4 * kDim);
    Qkv parts{rows.output(2 * kDim), rows.output(kDim), rows.output(kDim)};
    rope_rotate(kCard, table, Rotation::kForward, turned);
    rope_split(kCard, table, rows.input("qkv", 4 * kDim), parts);
    rope_join(kCard, table, parts, joined);
    return {turned, parts.q_TC, parts.k_TC, parts.v_TC, joined};
  });
  expect_same("embedding", [](Rows& rows) -> std::vector<Tensor> {
    std::vector<int32_t> ids(kRows);
    for (size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<int32_t>(t * 7 % kRows);
    const Tensor ids_T = to_tensor(rows.runtime(), ids);
    Tensor y = rows.output(kCols), dw = rows.output(kCols);  // the table is far too
    embedding_forward(kCard, ids_T, rows.input("w", kCols), y);
    embedding_backward(kCard, rows.input("dy", kCols), ids_T, WriteMode::kOverwrite, dw);
    return {y, dw};
  });
}

TEST_F(CudaFarRows, Products) {
  expect_near("linear", 4e-3, [](Rows& rows) -> std::vector<Tensor> {
    constexpr int64_t kOut = 64;
    const Tensor x = rows.input("x", kCols), dy = rows.input("dy", kOut);
    const Tensor w = rows.matrix("w", kOut, kCols);
    Tensor y = rows.output(kOut), dx = rows.output(kCols);
    Tensor dw = rows.nothing({kOut, kCols}, DType::kF32), db = rows.nothing({kOut}, DType::kF32);
    linear_forward(kCard, x, w, {}, y);
    linear_backward_input(kCard, dy, w, WriteMode::kOverwrite, dx);
    linear_backward_weight(kCard, dy, x, WriteMode::kOverwrite, dw);
    linear_backward_bias(kCard, dy, WriteMode::kOverwrite, db);
    return {y, dx, dw, db};
  });
}

// By every candidate, a test each, so that one that a card runs for the first time can be left out.
// cuDNN, whose offsets have 32 bits, is not asked and leaves it to another.
class CudaFarAttention : public CudaFarRows, public testing::WithParamInterface<std::string> {};

std::vector<std::string> attention_labels() {
  std::vector<std::string> labels;
  for (const std::string_view label : attention_backward.labels(kCard)) labels.emplace_back(label);
  return labels;
}
INSTANTIATE_TEST_SUITE_P(Labels, CudaFarAttention, testing::ValuesIn(attention_labels()),
                         [](const auto& info) { return info.param; });

TEST_P(CudaFarAttention, BothPasses) {
  attention_forward.choose(kCard, GetParam());
  attention_backward.choose(kCard, GetParam());
  expect_near(GetParam(), 1e-2, [](Rows& rows) -> std::vector<Tensor> {
    constexpr int64_t kDim = 64;
    const auto heads = [](const Tensor& x_TC) { return HeadsView{x_TC, kDim}; };
    const Documents documents{
        to_tensor(rows.runtime(), std::vector<int32_t>{0, 1, 1, static_cast<int32_t>(kRows)}),
        kRows - 1};
    const HeadsView q = heads(rows.input("q", 2 * kDim)), k = heads(rows.input("k", kDim)),
                    v = heads(rows.input("v", kDim));
    HeadsView dq = heads(rows.output(2 * kDim)), dk = heads(rows.output(kDim)),
              dv = heads(rows.output(kDim));
    Tensor out = rows.output(2 * kDim), lse = rows.nothing({2, kRows}, DType::kF32);
    attention_forward(kCard, q, k, v, documents, out, lse);
    attention_backward(kCard, rows.input("dout", 2 * kDim), q, k, v, out, lse, documents, dq, dk,
                       dv);
    return {out, lse, dq.x_TC, dk.x_TC, dv.x_TC};
  });
  attention_forward.choose(kCard, {});
  attention_backward.choose(kCard, {});
}

// A cache of blocks of two tokens, one sequence: its keys are the last rows, backwards.
TEST_F(CudaFarRows, Cache) {
  expect_near("cache", 4e-3, [](Rows& rows) -> std::vector<Tensor> {
    constexpr int64_t kDim = 64, kBlock = 2, kBlocks = kRows / kBlock;
    std::vector<int32_t> table(kBlocks);
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(kBlocks - 1 - i);
    const auto integers = [&](const std::vector<int32_t>& values, const Shape& shape) {
      return to_tensor<int32_t>(rows.runtime(), values, shape);
    };
    KvCacheView cache{rows.input("k", kDim), rows.input("v", kDim), integers(table, {1, kBlocks}),
                      integers({5}, {1}),    integers({0, 3}, {2}), kBlock};
    kv_cache_append(kCard, rows.matrix("new k", 3, kDim), rows.matrix("new v", 3, kDim), cache);
    Tensor out = rows.nothing({3, 2 * kDim}, kType);
    attention_cached(kCard, {rows.matrix("q", 3, 2 * kDim), kDim}, cache, out);
    return {cache.k, cache.v, out};
  });
}

}  // namespace
}  // namespace ink
