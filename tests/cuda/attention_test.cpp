// Attention on the card against f64 on the host: every candidate over the shapes that tiles get
// wrong, documents that must not see each other, the same bits in every run, a cache. On the host
// implementation also what a card's capability decides and three orders of the threads.
#include "engine/ops/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <ostream>
#include <string_view>

#include "engine/kernels/cuda/attention_ragged.h"
#include "engine/kernels/tuning.h"
#include "tests/cuda/attention_reference.h"
#include "tests/cuda/card.h"
#include "tests/support/compare.h"

#ifdef INKSTONE_CUDA_ON_CPU_TEST
#include <cuda_runtime.h>

#include "tests/support/cuda_on_cpu/block.h"
#endif

namespace ink {
namespace {

using Lengths = std::vector<int64_t>;

struct Problem {
  AttentionShape shape;
  Lengths lengths;

  [[nodiscard]] int64_t tokens() const {
    return std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  }
  [[nodiscard]] int64_t out_width() const { return shape.heads * shape.head_dim; }
  [[nodiscard]] Values qkv(DType dtype) const {
    Values x = normal_values("qkv", tokens() * QkvColumns(shape).width());
    for (double& value : x) value *= 1.5;
    return rounded(x, dtype);
  }
  [[nodiscard]] Values dout(DType dtype) const {
    return rounded(normal_values("dout", tokens() * out_width()), dtype);
  }
};

std::ostream& operator<<(std::ostream& to, const Problem& p) {
  to << p.shape.heads << " heads, " << p.shape.kv_heads << " kv heads of " << p.shape.head_dim
     << ", documents";
  for (const int64_t length : p.lengths) to << " " << length;
  return to;
}

struct Result {
  Values out, lse, dqkv;
  bool operator==(const Result&) const = default;
};

// A candidate for both passes, for the life of the scope.
class Choice {
 public:
  explicit Choice(std::string_view label) { choose(label); }
  ~Choice() { choose({}); }
  Choice(const Choice&) = delete;
  Choice& operator=(const Choice&) = delete;

  // Did the last calls take it?
  static bool ran(std::string_view label) {
    return attention_forward.last_label(Device::kCuda) == label &&
           attention_backward.last_label(Device::kCuda) == label;
  }

 private:
  static void choose(std::string_view label) {
    attention_forward.choose(Device::kCuda, label);
    attention_backward.choose(Device::kCuda, label);
  }
};

class CudaAttention : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
    start();
  }
  void TearDown() override {
#ifdef INKSTONE_CUDA_ON_CPU_TEST
    cuda_on_cpu::set_capability(9, 0);
    cuda_on_cpu::set_order(cuda_on_cpu::Order::kAscending);
#endif
  }
  void start() {
    runtime_ = std::make_unique<Runtime>(RuntimeOptions{}, make_backend(Device::kCuda));
  }

  [[nodiscard]] Tensor nothing(const Shape& shape, DType dtype) {
    return from_values(
        *runtime_,
        Values(static_cast<size_t>(shape.numel()), std::numeric_limits<double>::quiet_NaN()), shape,
        dtype);
  }
  [[nodiscard]] Documents documents(const Lengths& lengths) {
    std::vector<int32_t> bounds = {0};
    for (const int64_t length : lengths)
      bounds.push_back(bounds.back() + static_cast<int32_t>(length));
    return {to_tensor(*runtime_, bounds), *std::max_element(lengths.begin(), lengths.end())};
  }

  // Forward and backward, results full of NaN before.
  Result run(const Values& x, const Values& dy, const AttentionShape& s, const Lengths& lengths,
             DType dtype) {
    const QkvColumns at(s);
    const int64_t tokens = static_cast<int64_t>(x.size()) / at.width(), dim = s.head_dim;
    const auto heads = [&](int64_t first, int64_t count) {
      Values part;
      for (int64_t t = 0; t < tokens; ++t) {
        const auto row = x.begin() + t * at.width() + first;
        part.insert(part.end(), row, row + count * dim);
      }
      return HeadsView{from_values(*runtime_, part, {tokens, count * dim}, dtype), dim};
    };
    const auto results = [&](int64_t count) {
      return HeadsView{nothing({tokens, count * dim}, dtype), dim};
    };
    const HeadsView q = heads(0, s.heads), k = heads(at.k(0), s.kv_heads),
                    v = heads(at.v(0), s.kv_heads);
    HeadsView dq = results(s.heads), dk = results(s.kv_heads), dv = results(s.kv_heads);
    Tensor out = nothing({tokens, s.heads * dim}, dtype);
    Tensor lse = nothing({s.heads, tokens}, DType::kF32);
    const Documents packed = documents(lengths);
    attention_forward(Device::kCuda, q, k, v, packed, out, lse);
    attention_backward(Device::kCuda, from_values(*runtime_, dy, out.shape(), dtype), q, k, v, out,
                       lse, packed, dq, dk, dv);
    return {to_values(out), to_values(lse), rows_of({dq, dk, dv}, tokens)};
  }
  static Values rows_of(const std::vector<HeadsView>& parts, int64_t tokens) {
    std::vector<Values> values;
    for (const HeadsView& part : parts) values.push_back(to_values(part.x_TC));
    Values rows;
    for (int64_t t = 0; t < tokens; ++t) {
      for (const Values& part : values) {
        const int64_t columns = static_cast<int64_t>(part.size()) / tokens;
        rows.insert(rows.end(), part.begin() + t * columns, part.begin() + (t + 1) * columns);
      }
    }
    return rows;
  }
  Result run(const Problem& p, DType dtype) {
    return run(p.qkv(dtype), p.dout(dtype), p.shape, p.lengths, dtype);
  }

  // Errors of the card's result are at most twice those of the composition in the same dtype.
  void compare(const Problem& p, DType dtype) {
    SCOPED_TRACE(::testing::Message() << p << ", " << name_of(dtype));
    const Values x = p.qkv(dtype), dy = p.dout(dtype);
    const Result got = run(x, dy, p.shape, p.lengths, dtype);
    const ComposedAttention want = ComposeAttention(x, dy, p.shape, DType::kF64).run(p.lengths);
    EXPECT_LE(max_abs(got.lse, want.lse), 2e-5);
    if (dtype == DType::kF32) {
      EXPECT_LE(rel_frobenius(got.out, want.out), 2e-6);
      EXPECT_LE(rel_frobenius(got.dqkv, want.dqkv), 1e-5);
      return;
    }
    const ComposedAttention same = ComposeAttention(x, dy, p.shape, dtype).run(p.lengths);
    EXPECT_LE(rel_frobenius(got.out, want.out), 2 * rel_frobenius(same.out, want.out));
    EXPECT_LE(rel_frobenius(got.dqkv, want.dqkv), 2 * rel_frobenius(same.dqkv, want.dqkv));
  }

  std::unique_ptr<Runtime> runtime_;
};

const std::vector<Problem> kTensorCoreProblems = {
    {{2, 2, 64}, {1, 0, 63, 64, 65, 0, 2}},
    {{4, 1, 64}, {33, 1, 97}},
    {{1, 1, 64}, {127, 128, 129}},
    {{8, 1, 128}, {17, 0, 40}},
    {{2, 1, 128}, {129, 1, 66}},
    {{3, 1, 128}, {50, 5}},
};

// A test per candidate: one that a card runs for the first time is left out by its label.
class CudaAttentionBy : public CudaAttention, public ::testing::WithParamInterface<std::string> {
 protected:
  [[nodiscard]] const std::string& label() const { return GetParam(); }
  // Did another one take the last calls? Only those that are not of every card may be missing.
  [[nodiscard]] bool missing() const {
    if (Choice::ran(label())) return false;
    EXPECT_TRUE(label() == "flash_wgmma" || label() == "cudnn") << label() << " did not run";
    return true;
  }
};
constexpr const char* kNotOfThisCard = "this card does not run it";

class CudaTensorCores : public CudaAttentionBy {};
class CudaWarpgroups : public CudaAttentionBy {};

// What holds to the bit, which a library does not promise.
class CudaOwnAttention : public CudaAttentionBy {
 protected:
  struct Run {
    Problem problem;
    DType dtype;
  };
  [[nodiscard]] Run run_of(const Run& tensor_cores, const Run& plain) const {
    return label() == "plain" ? plain : tensor_cores;
  }
};

// Of those that have both passes.
std::vector<std::string> labels_without(std::string_view one) {
  std::vector<std::string> labels;
  for (const std::string_view label : attention_backward.labels(Device::kCuda)) {
    if (label != one) labels.emplace_back(label);
  }
  return labels;
}

INSTANTIATE_TEST_SUITE_P(Labels, CudaTensorCores, ::testing::ValuesIn(labels_without("plain")),
                         [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Labels, CudaWarpgroups, ::testing::Values("flash_wgmma"),
                         [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Labels, CudaOwnAttention, ::testing::ValuesIn(labels_without("cudnn")),
                         [](const auto& info) { return info.param; });

TEST_P(CudaTensorCores, Shapes) {
  const Choice both(label());
  for (const Problem& p : kTensorCoreProblems) {
    compare(p, DType::kBF16);
    compare(p, DType::kF16);
  }
  if (missing()) GTEST_SKIP() << kNotOfThisCard;
}

TEST_F(CudaAttention, PlainShapes) {
  const Choice both("plain");
  const std::vector<Problem> problems = {
      {{8, 2, 8}, {1, 31, 32, 33, 0, 5}},
      {{3, 1, 96}, {40, 2}},
      {{2, 1, 160}, {35}},
      {{1, 1, 20}, {70}},
      {{4, 4, 64}, {1, 0, 3, 34}},
      {{2, 1, 128}, {37, 9}},
  };
  for (const Problem& p : problems) {
    compare(p, DType::kF32);
    compare(p, DType::kBF16);
    compare(p, DType::kF16);
  }
}

// The candidate of sm_90a: rings of tiles that go round in both passes, groups that do not divide a
// tile, tiles whose second half sees more keys or is seen by fewer rows, or that have none.
TEST_P(CudaWarpgroups, Shapes) {
  const Choice both(label());
  const std::vector<Problem> problems = {
      {{1, 1, 64}, {1, 0, 63, 64, 65, 127, 128, 129}},
      {{1, 1, 128}, {400}},
      {{3, 1, 64}, {90, 0, 43}},
      {{2, 1, 128}, {300, 5}},
      {{8, 2, 128}, {17, 33}},
      {{5, 1, 64}, {200}},
      {{3, 1, 128}, {0, 63, 1, 150}},
  };
  for (const Problem& p : problems) {  // CudaTensorCores.Shapes has both types of both sizes
    compare(p, p.shape.head_dim == 64 ? DType::kBF16 : DType::kF16);
    if (missing()) GTEST_SKIP() << kNotOfThisCard;
  }
}

Values part(const Values& x, int64_t row, int64_t rows, int64_t columns) {
  return {x.begin() + row * columns, x.begin() + (row + rows) * columns};
}

// Tiles are counted from the start of a document, so not one bit depends on its neighbours.
TEST_P(CudaOwnAttention, APackedDocumentEqualsTheDocumentAlone) {
  const auto [p, dtype] = run_of({{{4, 2, 64}, {5, 70, 1, 33}}, DType::kBF16},
                                 {{{2, 1, 24}, {5, 40, 1, 33}}, DType::kF32});
  const Choice both(label());
  const int64_t width = QkvColumns(p.shape).width();
  const Values x = p.qkv(dtype), dy = p.dout(dtype);
  const Result packed = run(x, dy, p.shape, p.lengths, dtype);
  if (missing()) GTEST_SKIP() << kNotOfThisCard;
  int64_t row = 0;
  for (const int64_t length : p.lengths) {
    const Result alone = run(part(x, row, length, width), part(dy, row, length, p.out_width()),
                             p.shape, {length}, dtype);
    EXPECT_EQ(part(packed.out, row, length, p.out_width()), alone.out) << length;
    EXPECT_EQ(part(packed.dqkv, row, length, width), alone.dqkv) << length;
    row += length;
  }
}

TEST_P(CudaOwnAttention, EditingOneDocumentChangesNoBitOfAnother) {
  const auto [p, dtype] =
      run_of({{{2, 1, 128}, {37, 50, 20}}, DType::kF16}, {{{4, 1, 16}, {37, 50, 20}}, DType::kF32});
  const Choice both(label());
  const int64_t width = QkvColumns(p.shape).width(), out = p.out_width();
  const Values x = p.qkv(dtype), dy = p.dout(dtype);
  Values edited = x;
  std::fill(edited.begin() + 37 * width, edited.begin() + 87 * width,
            std::numeric_limits<double>::quiet_NaN());
  const Result before = run(x, dy, p.shape, p.lengths, dtype);
  if (missing()) GTEST_SKIP() << kNotOfThisCard;
  const Result after = run(edited, dy, p.shape, p.lengths, dtype);
  EXPECT_EQ(part(before.out, 0, 37, out), part(after.out, 0, 37, out));
  EXPECT_EQ(part(before.out, 87, 20, out), part(after.out, 87, 20, out));
  EXPECT_EQ(part(before.dqkv, 0, 37, width), part(after.dqkv, 0, 37, width));
  EXPECT_EQ(part(before.dqkv, 87, 20, width), part(after.dqkv, 87, 20, width));
  EXPECT_TRUE(std::isnan(after.out[static_cast<size_t>(37 * out)]));
  EXPECT_TRUE(std::isnan(after.dqkv[static_cast<size_t>(37 * width)]));
}

// To the bit: a mask that is one key too late where a tile ends is a few rows of many, which no
// norm of the whole shows. Groups of 8, so that a warp's rows begin at even tokens.
TEST_P(CudaOwnAttention, WhatIsNotSeenChangesNoBit) {
  const auto [p, dtype] =
      run_of({{{8, 1, 64}, {140}}, DType::kF16}, {{{8, 1, 8}, {70}}, DType::kF32});
  const Choice both(label());
  const int64_t width = QkvColumns(p.shape).width(), out = p.out_width();
  const Values x = p.qkv(dtype), dy = p.dout(dtype);
  const Result before = run(x, dy, p.shape, p.lengths, dtype);
  if (missing()) GTEST_SKIP() << kNotOfThisCard;
  for (const int64_t cut : {31, 62, 63, 126, 127}) {
    if (cut + 1 >= p.tokens()) continue;
    SCOPED_TRACE(cut);
    // What comes after a token does not reach its output and the gradient of its query.
    Values later = x;
    std::for_each(later.begin() + (cut + 1) * width, later.end(), [](double& v) { v += 4; });
    const Result after = run(later, dy, p.shape, p.lengths, dtype);
    EXPECT_EQ(part(before.out, 0, cut + 1, out), part(after.out, 0, cut + 1, out));
    for (int64_t row = 0; row <= cut; ++row)
      ASSERT_EQ(part(before.dqkv, row * width, out, 1), part(after.dqkv, row * width, out, 1));
    // A query does not reach the gradients of the keys and values behind it.
    Values queries = x, gradients = dy;
    for (int64_t row = 0; row <= cut; ++row) {
      for (int64_t i = 0; i < out; ++i) queries[static_cast<size_t>(row * width + i)] += 4;
    }
    std::for_each(gradients.begin(), gradients.begin() + (cut + 1) * out,
                  [](double& v) { v += 4; });
    const Result others = run(queries, gradients, p.shape, p.lengths, dtype);
    for (int64_t row = cut + 1; row < p.tokens(); ++row)
      ASSERT_EQ(part(before.dqkv, row * width + out, width - out, 1),
                part(others.dqkv, row * width + out, width - out, 1));
  }
}

TEST_P(CudaOwnAttention, TwoRunsGiveTheSameBits) {
  const auto [p, dtype] =
      run_of({{{4, 2, 64}, {90, 3, 40}}, DType::kF16}, {{{4, 2, 8}, {90, 3, 40}}, DType::kF32});
  const Choice both(label());
  const Result first = run(p, dtype);
  if (missing()) GTEST_SKIP() << kNotOfThisCard;
  EXPECT_EQ(first, run(p, dtype));
}

// Documents of several tiles of keys, whose shares of a query's gradient may meet in any order.
TEST_F(CudaAttention, CudnnRepeatsItsBitsWhereNothingIsMeasured) {
  const std::vector<std::string_view> labels = attention_backward.labels(Device::kCuda);
  if (std::ranges::find(labels, "cudnn") == labels.end()) GTEST_SKIP() << "no card with cuDNN";
  const Choice both("cudnn");
  tuning_of(*runtime_)->measure = false;
  const Problem p{{4, 2, 64}, {700, 3, 390}};
  const Result first = run(p, DType::kBF16);
  if (!Choice::ran("cudnn")) GTEST_SKIP() << "cuDNN does not take it on this card";
  for (int again = 0; again < 3; ++again) EXPECT_EQ(run(p, DType::kBF16), first);
}

TEST_F(CudaAttention, NoTokens) {
  const Result got = run({}, {}, {2, 1, 64}, {0, 0}, DType::kF16);
  EXPECT_TRUE(got.out.empty());
}

// Documents whose number of tiles is beyond the warps of the planning kernel's lanes.
TEST_F(CudaAttention, ManyDocuments) {
  Lengths lengths;
  for (int64_t i = 0; i < 100; ++i) lengths.push_back(i % 3);
  compare({{1, 1, 8}, lengths}, DType::kF32);
  compare({{2, 1, 64}, lengths}, DType::kF16);
  compare({{1, 1, 8}, {1100}}, DType::kF32);
}

struct CachedProblem {
  AttentionShape shape;
  Lengths keys, queries;
  int64_t block;
};

// Queries are the last ones of their keys; a key lies in a block that the table names.
class CachedRun {
 public:
  CachedRun(const CachedProblem& p, DType dtype) : p_(p), dtype_(dtype) {
    const int64_t longest = *std::max_element(p.keys.begin(), p.keys.end());
    per_sequence_ = (longest + p.block - 1) / p.block;
    blocks_ = per_sequence_ * static_cast<int64_t>(p.keys.size());
    for (int64_t i = 0; i < blocks_; ++i)  // 7 has no factor in common with the counts used here
      table_.push_back(static_cast<int32_t>((i * 7 + 3) % blocks_));
    const int64_t columns = p.shape.kv_heads * p.shape.head_dim;
    k_ = rounded(normal_values("keys", blocks_ * p.block * columns), dtype);
    v_ = rounded(normal_values("values", blocks_ * p.block * columns), dtype);
    const int64_t tokens = std::accumulate(p.queries.begin(), p.queries.end(), int64_t{0});
    q_ = rounded(normal_values("queries", tokens * p.shape.heads * p.shape.head_dim), dtype);
  }

  [[nodiscard]] Tensor on_card(Runtime& runtime) const {
    const int64_t dim = p_.shape.head_dim, columns = p_.shape.kv_heads * dim;
    const int64_t width = p_.shape.heads * dim, tokens = static_cast<int64_t>(q_.size()) / width;
    std::vector<int32_t> lengths, bounds = {0};
    for (size_t s = 0; s < p_.keys.size(); ++s) {
      lengths.push_back(static_cast<int32_t>(p_.keys[s]));
      bounds.push_back(bounds.back() + static_cast<int32_t>(p_.queries[s]));
    }
    const KvCacheView cache{
        from_values(runtime, k_, {blocks_ * p_.block, columns}, dtype_),
        from_values(runtime, v_, {blocks_ * p_.block, columns}, dtype_),
        to_tensor<int32_t>(runtime, table_, {static_cast<int64_t>(p_.keys.size()), per_sequence_}),
        to_tensor(runtime, lengths),
        to_tensor(runtime, bounds),
        p_.block};
    Tensor out = from_values(runtime, Values(q_.size(), std::nan("")), {tokens, width}, dtype_);
    attention_cached(Device::kCuda, {from_values(runtime, q_, {tokens, width}, dtype_), dim}, cache,
                     out);
    return out;
  }

  [[nodiscard]] Values want() const {
    const int64_t dim = p_.shape.head_dim, ratio = p_.shape.heads / p_.shape.kv_heads;
    Values out(q_.size());
    int64_t token = 0;
    for (size_t s = 0; s < p_.keys.size(); ++s) {
      for (int64_t i = 0; i < p_.queries[s]; ++i, ++token) {
        for (int64_t h = 0; h < p_.shape.heads; ++h) {
          const size_t at = static_cast<size_t>((token * p_.shape.heads + h) * dim);
          attend(s, p_.keys[s] - p_.queries[s] + i, h / ratio, &q_[at], &out[at]);
        }
      }
    }
    return out;
  }

 private:
  void attend(size_t s, int64_t position, int64_t group, const double* q, double* out) const {
    const int64_t dim = p_.shape.head_dim;
    const auto row = [&](int64_t key) {
      const size_t page =
          s * static_cast<size_t>(per_sequence_) + static_cast<size_t>(key / p_.block);
      const int64_t at = table_[page] * p_.block + key % p_.block;
      return static_cast<size_t>((at * p_.shape.kv_heads + group) * dim);
    };
    Values p;
    double sum = 0;
    for (int64_t key = 0; key <= position; ++key) {
      p.push_back(std::exp(std::inner_product(q, q + dim, &k_[row(key)], 0.0) /
                           std::sqrt(static_cast<double>(dim))));
      sum += p.back();
    }
    for (int64_t key = 0; key <= position; ++key) {
      for (int64_t d = 0; d < dim; ++d)
        out[d] += p[static_cast<size_t>(key)] / sum * v_[row(key) + static_cast<size_t>(d)];
    }
  }

  const CachedProblem& p_;
  DType dtype_;
  int64_t per_sequence_ = 0, blocks_ = 0;
  std::vector<int32_t> table_;
  Values q_, k_, v_;
};

TEST_F(CudaAttention, CachedKeys) {
  const std::vector<CachedProblem> problems = {
      {{4, 2, 64}, {700, 5, 0, 513, 512}, {1, 1, 0, 1, 1}, 16},  // one token each, split keys
      {{8, 1, 128}, {90, 23, 9}, {40, 3, 9}, 8},                 // prompts with and without a past
      {{2, 2, 64}, {130}, {130}, 32},
      {{3, 1, 20}, {40, 33}, {7, 1}, 4},
      {{4, 1, 160}, {600}, {1}, 64},
  };
  for (const CachedProblem& p : problems) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const CachedRun run(p, dtype);
      const double tolerance = dtype == DType::kF32 ? 2e-6 : dtype == DType::kBF16 ? 4e-3 : 1e-3;
      EXPECT_LE(rel_frobenius(to_values(run.on_card(*runtime_)), run.want()), tolerance)
          << name_of(dtype) << ", head_dim " << p.shape.head_dim;
    }
  }
}

// What the candidate that hands a packed stream to a library does around the call.
TEST_F(CudaAttention, RaggedBounds) {
  const std::vector<int64_t> strides = {1, 96};
  const RaggedBounds bounds = ragged_bounds(documents({3, 0, 5}), strides);
  EXPECT_EQ(to_values(bounds.lengths), (Values{3, 5, 0}));
  EXPECT_EQ(to_values(bounds.offsets), (Values{0, 3, 8, 8, 0, 288, 768, 768}));
}

// More documents than threads, most of them empty, the first and the last too.
TEST_F(CudaAttention, RaggedBoundsHaveEmptyDocumentsBehindAllOthers) {
  std::vector<int64_t> lengths;
  for (int64_t d = 0; d < 2500; ++d) lengths.push_back(d % 3 == 1 ? d % 7 : 0);
  Values want_lengths, want_offsets;
  double token = 0;
  for (const int64_t length : lengths) {
    if (length == 0) continue;
    want_lengths.push_back(static_cast<double>(length));
    want_offsets.push_back(token);
    token += static_cast<double>(length);
  }
  want_lengths.resize(lengths.size(), 0);
  want_offsets.resize(lengths.size() + 1, token);
  const std::vector<int64_t> strides = {1};
  const RaggedBounds bounds = ragged_bounds(documents(lengths), strides);
  EXPECT_EQ(to_values(bounds.lengths), want_lengths);
  EXPECT_EQ(to_values(bounds.offsets), want_offsets);
}

TEST_F(CudaAttention, StatisticsAreTransposed) {
  const Values x = rounded(normal_values("statistics", 7 * 70), DType::kF32);
  Tensor to = nothing({70, 7}, DType::kF32);
  transpose_statistics(from_values(*runtime_, x, {7, 70}, DType::kF32), to);
  const Values got = to_values(to);
  for (size_t r = 0; r < 7; ++r) {
    for (size_t c = 0; c < 70; ++c) EXPECT_EQ(got[c * 7 + r], x[r * 70 + c]);
  }
}

#ifdef INKSTONE_CUDA_ON_CPU_TEST
TEST_F(CudaAttention, TheCapabilityDecidesWhatRuns) {
  struct Claim {
    int major, minor;
    DType dtype;
    int64_t dim;
    const char* label;
  };
  const Claim claims[] = {
      {7, 5, DType::kF16, 64, "flash_mma"},   {7, 5, DType::kF16, 128, "flash_mma"},
      {7, 5, DType::kBF16, 64, "plain"},      {7, 5, DType::kF32, 64, "plain"},
      {8, 0, DType::kBF16, 128, "flash_mma"}, {8, 0, DType::kF16, 96, "plain"},
      {9, 0, DType::kBF16, 64, "flash_mma"},  {9, 0, DType::kF32, 128, "plain"},
  };
  for (const Claim& claim : claims) {
    SCOPED_TRACE(::testing::Message() << claim.major << "." << claim.minor << " "
                                      << name_of(claim.dtype) << " " << claim.dim);
    runtime_.reset();
    cuda_on_cpu::set_capability(claim.major, claim.minor);
    start();
    compare({{2, 1, claim.dim}, {66, 3}}, claim.dtype);
    EXPECT_TRUE(Choice::ran(claim.label));
    const Choice both("flash_wgmma");
    compare({{2, 1, claim.dim}, {66, 3}}, claim.dtype);
    const bool taken = claim.major == 9 && claim.dtype == DType::kBF16;
    EXPECT_TRUE(Choice::ran(taken ? "flash_wgmma" : claim.label));
  }
  runtime_.reset();
}

TEST_P(CudaOwnAttention, TheOrderOfThreadsChangesNoBit) {
  using cuda_on_cpu::Order;
  const std::map<std::string, std::vector<Run>> runs = {
      {"flash_mma",
       {{{{4, 1, 64}, {70, 1, 30}}, DType::kBF16}, {{{2, 1, 128}, {80}}, DType::kF16}}},
      {"flash_wgmma",
       {{{{1, 1, 64}, {390, 1, 30}}, DType::kBF16}, {{{2, 1, 128}, {80, 270}}, DType::kF16}}},
      {"plain", {{{{2, 1, 40}, {40, 3}}, DType::kF32}}}};
  const Choice both(label());
  for (const auto& [p, dtype] : runs.at(label())) {
    const Result want = run(p, dtype);
    for (const Order order : {Order::kDescending, Order::kRandom}) {
      cuda_on_cpu::set_order(order);
      EXPECT_EQ(run(p, dtype), want) << p;
      cuda_on_cpu::set_order(Order::kAscending);
    }
  }
}
#endif

}  // namespace
}  // namespace ink
